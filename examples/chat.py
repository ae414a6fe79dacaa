"""A chat that remembers.

The chat of LangGraph's guide "How to add thread-level persistence to your graph", in four scenes:
without persistence, with a thread in Redis, with that thread in another process, and with a second
thread.

    python examples/chat.py              the four scenes, on a server of its own or on REDIS_URL
    python examples/chat.py THREAD_ID    the third one alone: a question in a thread of REDIS_URL
"""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python examples/chat.py`

from examples.local_model import chat_model
from examples.storage import open_saver, storage

Graph = CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]

HELLO = "hi! I'm bob"
QUESTION = "what's my name?"

model = chat_model()


def call_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Answer the conversation so far."""
    return {"messages": [model.invoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("call_model", call_model)
builder.add_edge(START, "call_model")


def say(graph: Graph, text: str, thread_id: str = "") -> None:
    """Send one message and print the answer while it comes."""
    print(f"  you: {text}\n  bot: ", end="")
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    stream = graph.stream({"messages": [HumanMessage(text)]}, config, stream_mode="messages")
    for token, _ in stream:
        if isinstance(token, BaseMessage):
            print(token.text, end="", flush=True)
    print()


def four_scenes() -> None:
    """Show who remembers and who does not."""
    print("Without a checkpointer, every run starts from nothing:")
    forgetful = builder.compile()
    say(forgetful, HELLO)
    say(forgetful, QUESTION)

    with open_saver() as saver:
        graph = builder.compile(checkpointer=saver)
        bob, stranger = f"bob-{uuid4().hex[:8]}", f"stranger-{uuid4().hex[:8]}"

        print(f"\nWith RedisSaver, process {os.getpid()} remembers the thread {bob}:")
        say(graph, HELLO, bob)
        say(graph, QUESTION, bob)

        print(flush=True)
        subprocess.run([sys.executable, __file__, bob], check=True)

        print(f"\nThe thread {stranger} knows nothing of the other one:")
        say(graph, QUESTION, stranger)

        for thread_id in (bob, stranger):
            saver.delete_thread(thread_id)


def one_question(thread_id: str) -> None:
    """Ask in a thread that another process has begun."""
    print(f"Process {os.getpid()} takes up the thread {thread_id}:")
    with open_saver() as saver:
        say(builder.compile(checkpointer=saver), QUESTION, thread_id)


if __name__ == "__main__":
    with storage():
        if sys.argv[1:]:
            one_question(sys.argv[1])
        else:
            four_scenes()
