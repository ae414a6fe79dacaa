"""The chat model of the examples: Claude where it can be had, a tiny one of our own elsewhere."""

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

_CLAUDE = os.environ.get("ANTHROPIC_MODEL", "claude-sonnet-4-5")
_INTRODUCTION = re.compile(r"\b(?:i'm|i am|my name is) (\w+)", re.IGNORECASE)


def chat_model() -> BaseChatModel:
    """Claude with an ANTHROPIC_API_KEY and langchain-anthropic installed, else `LocalModel`."""
    if os.environ.get("ANTHROPIC_API_KEY") and importlib.util.find_spec("langchain_anthropic"):
        from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - it may not be installed

        model: BaseChatModel = ChatAnthropic(model_name=_CLAUDE, timeout=60, stop=None)
        return model
    return LocalModel()


class LocalModel(BaseChatModel):
    """Answers from the conversation that it is given, and remembers nothing itself."""

    @property
    def _llm_type(self) -> str:
        return "local"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(content=_answer(messages)))]
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for word in re.findall(r"\S+\s*", _answer(messages)):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


def _answer(messages: Sequence[BaseMessage]) -> str:
    said = [message.text for message in messages if isinstance(message, HumanMessage)]
    names = [name for text in said for name in _INTRODUCTION.findall(text)]
    if not names:
        return "I don't know who you are: this conversation does not tell me."
    name = names[-1].capitalize()
    if _INTRODUCTION.search(said[-1]):
        return f"Hi {name}! How can I help you today?"
    return f"Your name is {name}! You have written {len(said)} messages in this conversation."
