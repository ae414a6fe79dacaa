"""A conversation; where it is kept is the server's business, see langgraph.json."""

from typing import Any

from langgraph.graph import START, MessagesState, StateGraph


async def answer(state: MessagesState) -> dict[str, Any]:
    """A model would be asked here."""
    return {"messages": [("ai", f"Messages in this thread: {len(state['messages'])}")]}


graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
