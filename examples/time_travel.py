"""What if bob had said another name? Back to an earlier checkpoint, and on from there.

Every step of a thread is a checkpoint that stays. A fork begins a second branch at one of them, and
both branches can be read afterwards.
"""

import sys
from pathlib import Path
from uuid import uuid4

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import StateSnapshot

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python examples/time_travel.py`

from examples.local_model import chat_model
from examples.storage import open_saver, storage

model = chat_model()


def call_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Answer the conversation so far."""
    return {"messages": [model.invoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("call_model", call_model)
builder.add_edge(START, "call_model")


def show(title: str, snapshot: StateSnapshot) -> None:
    """Print the conversation as one checkpoint has it."""
    print(f"{title}:")
    for message in snapshot.values["messages"]:
        print(f"  {message.type:>5}: {message.text}")
    print()


def main() -> None:
    """Talk, go back, talk differently, and compare."""
    thread_id = f"bob-{uuid4().hex[:8]}"
    thread: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    question = HumanMessage("what's my name?")

    with open_saver() as saver:
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"messages": [HumanMessage("hi! I'm bob", id="hello")]}, thread)
        graph.invoke({"messages": [question]}, thread)
        original = graph.get_state(thread)
        show("The conversation", original)

        print("Its checkpoints, the newest first:")
        history = list(graph.get_state_history(thread))
        for snapshot in history:
            number = len(snapshot.values.get("messages", ()))
            print(f"  {snapshot.config['configurable']['checkpoint_id']}  messages: {number}")
        print()

        # A message with the id of an older one takes its place.
        before = next(s for s in reversed(history) if s.next == ("call_model",))
        other = HumanMessage("hi! I'm alice", id="hello")
        fork = graph.update_state(before.config, {"messages": [other]})
        graph.invoke(None, fork)  # None: no new input, go on from that checkpoint
        graph.invoke({"messages": [question]}, thread)

        show("The branch from the first message, now the newest", graph.get_state(thread))
        show("The first branch, still there", graph.get_state(original.config))
        saver.delete_thread(thread_id)


if __name__ == "__main__":
    with storage():
        main()
