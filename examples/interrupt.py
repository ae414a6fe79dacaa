"""A person in the loop, and a long wait in the middle.

A run stops at a question and its process is done with it. The answer comes to another process,
which knows no more than the thread's name, and the run goes on from where it stood.

    python examples/interrupt.py                     both processes, one after the other
    python examples/interrupt.py THREAD_ID yes|no    the second one alone, on REDIS_URL
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python examples/interrupt.py`

from examples.storage import open_saver, storage


class Order(TypedDict, total=False):
    """What is bought, for how much, and what came of it."""

    item: str
    euros: int
    approved: bool
    outcome: str


def approve(state: Order) -> Order:
    """Stop and ask; when the run goes on, `interrupt` returns the answer."""
    answer = interrupt(f"May I buy {state['item']} for {state['euros']} euros?")
    return {"approved": answer == "yes"}


def buy(state: Order) -> Order:
    """Do what the answer allows."""
    return {"outcome": f"Bought {state['item']}." if state["approved"] else "Bought nothing."}


builder = StateGraph(Order)
builder.add_sequence([approve, buy])
builder.add_edge(START, "approve")


def order(thread_id: str) -> None:
    """Run as far as the question."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    with open_saver() as saver:
        graph = builder.compile(checkpointer=saver)
        stopped = graph.invoke({"item": "a piano", "euros": 4000}, config)
    print(f"Process {os.getpid()} asks: {stopped['__interrupt__'][0].value}", flush=True)


def answer(thread_id: str, word: str) -> None:
    """Let the run go on with a person's word."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    with open_saver() as saver:
        graph = builder.compile(checkpointer=saver)
        finished = graph.invoke(Command(resume=word), config)
        saver.delete_thread(thread_id)
    print(f"Process {os.getpid()} is told {word!r}. {finished['outcome']}")


def both() -> None:
    """Ask here, and have another process take the answer, a yes and a no."""
    for word in ("yes", "no"):
        thread_id = f"order-{uuid4().hex[:8]}"
        order(thread_id)
        subprocess.run([sys.executable, __file__, thread_id, word], check=True)


if __name__ == "__main__":
    with storage():
        if sys.argv[1:]:
            answer(*sys.argv[1:])
        else:
            both()
