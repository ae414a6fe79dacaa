"""Many chats at once, in one event loop.

Everybody has a thread of their own in Redis. All of them introduce themselves at the same time,
then all ask for their names at the same time, and nobody hears of anybody else.
"""

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python examples/async_chat.py`

from examples.local_model import chat_model
from examples.storage import open_async_saver, storage

Graph = CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]

PEOPLE = ("Ada", "Bob", "Chen", "Dara", "Emil")

model = chat_model()


async def call_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Answer the conversation so far."""
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("call_model", call_model)
builder.add_edge(START, "call_model")


async def introduce(graph: Graph, name: str, config: RunnableConfig) -> None:
    """Say who we are, and wait for the whole answer."""
    state = await graph.ainvoke({"messages": [HumanMessage(f"hi! I'm {name}")]}, config)
    print(f"  {name}: {state['messages'][-1].text}")


async def ask(graph: Graph, name: str, config: RunnableConfig) -> None:
    """Ask who we are, and gather the answer from its tokens."""
    question = HumanMessage("what's my name?")
    stream = graph.astream({"messages": [question]}, config, stream_mode="messages")
    tokens = [token.text async for token, _ in stream if isinstance(token, BaseMessage)]
    print(f"  {name}: {''.join(tokens)}")


async def main() -> None:
    """Let everybody talk at once, twice."""
    async with open_async_saver() as saver:
        graph = builder.compile(checkpointer=saver)
        threads = {name: f"{name.lower()}-{uuid4().hex[:8]}" for name in PEOPLE}
        configs: dict[str, RunnableConfig] = {
            name: {"configurable": {"thread_id": thread_id}} for name, thread_id in threads.items()
        }

        print(f"{len(PEOPLE)} people introduce themselves at once:")
        await asyncio.gather(*(introduce(graph, *of) for of in configs.items()))

        print("\nAnd all ask at once:")
        await asyncio.gather(*(ask(graph, *of) for of in configs.items()))

        await asyncio.gather(*(saver.adelete_thread(thread_id) for thread_id in threads.values()))


if __name__ == "__main__":
    with storage():
        asyncio.run(main())
