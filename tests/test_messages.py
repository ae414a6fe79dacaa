"""Remembering messages: nobody can tell, but for the time that writing and reading them takes."""

from __future__ import annotations

import inspect
import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel, PrivateAttr

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._serde import shapes
from langgraph_checkpoint_redis._serde.caching import LARGE, MET, CachingSerializer, Recent
from langgraph_checkpoint_redis._serde.shapes import BEGINNINGS, MESSAGES, beginnings

from .driving import Driver
from .graphs import Session, chat
from .strategies import effort, nested, texts

TIMES = 5  # after which all is remembered that ever is
PERMISSIVE = JsonPlusSerializer(allowed_msgpack_modules=True, pickle_fallback=True)


class Shouted(HumanMessage):
    """A message of a user's own, with something that is in none of its fields."""

    _loud: bool = PrivateAttr(default=False)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Its fields, and that."""
        return {**super().model_dump(**options), "loud": self._loud}


class Name(bytes):
    """What has the bytes of another, but is not written like it."""


class Note(BaseModel):
    """What is no message."""

    content: str


# Fields that a user may set to anything.
anything = nested | st.sampled_from(
    [
        (1, [2]),
        [(1,)],
        {1: "a"},
        {True: []},
        b"a",
        bytearray(b"a"),
        {"a"},
        2**64,
        Note(content=""),
        UUID(int=1),
    ]
)
content = texts | st.lists(texts | st.fixed_dictionaries({"type": st.just("text"), "text": texts}))
tool_calls = st.lists(
    st.builds(
        lambda name, args: {"name": name, "args": args, "id": name, "type": "tool_call"},
        texts,
        st.dictionaries(texts, nested, max_size=2),
    ),
    max_size=2,
)
fields = st.fixed_dictionaries(
    {"content": content},
    optional={
        "id": texts,
        "name": texts,
        "additional_kwargs": st.dictionaries(texts, anything, max_size=2),
        "response_metadata": st.dictionaries(texts, anything, max_size=2),
        "custom": anything,
    },
)


def of_kinds(*kinds: type[BaseMessage]) -> st.SearchStrategy[Any]:
    return st.builds(lambda kind, fields: kind(**fields), st.sampled_from(kinds), fields)


remembered: st.SearchStrategy[Any] = st.one_of(
    of_kinds(HumanMessage, SystemMessage, AIMessage),
    st.builds(lambda fields, calls: AIMessage(**fields, tool_calls=calls), fields, tool_calls),
    st.builds(
        lambda fields, artifact: ToolMessage(**fields, tool_call_id="a", artifact=artifact),
        fields,
        anything,
    ),
)
others = of_kinds(AIMessageChunk, Shouted) | texts.map(lambda name: RemoveMessage(id=name))
conversations = st.lists(remembered, min_size=2, max_size=3)
values = conversations | st.lists(remembered | others | nested, max_size=4) | remembered | others


def remembering(capacity: int = 2**20, **options: Any) -> CachingSerializer:
    return CachingSerializer(capacity=capacity, **{"pickle_fallback": True, **options})


def exactly(value: Any) -> Any:
    """A value as something that equals only what is the same to the last type and bit."""
    if isinstance(value, BaseMessage):
        beside = [sorted(value.model_fields_set), value.model_extra, value.__pydantic_private__]
        return type(value), exactly(value.__dict__), exactly(beside)
    if isinstance(value, dict):
        return type(value), [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [*map(exactly, value)]
    return type(value), repr(value)


def outcome(call: Callable[[Any], Any], value: Any) -> Any:
    """What a call returns, or the error that it raises."""
    try:
        return exactly(call(value))
    except Exception as error:  # noqa: BLE001 - whatever it is, both must raise it
        return type(error), str(error)


@given(st.lists(values, min_size=1, max_size=3))
@example([[HumanMessage("", custom=1), AIMessage("")], [HumanMessage(""), AIMessage("")]])
@example([[HumanMessage("", additional_kwargs={"a": UUID(int=1)}), AIMessage("")]])
@effort(150)
def test_messages_are_written_and_read_as_the_serializer_does(several: list[Any]) -> None:
    """Otherwise, a thread would hold other messages than those that were put."""
    serde = remembering()
    for value in several * TIMES:
        written = outcome(PERMISSIVE.dumps_typed, value)
        assert outcome(serde.dumps_typed, value) == written
        if written[0] is tuple:
            typed = PERMISSIVE.dumps_typed(value)
            read = outcome(PERMISSIVE.loads_typed, typed)
            assert outcome(serde.loads_typed, typed) == read


changes = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["content", "name", "type", "additional_kwargs", "custom", "a"]),
        anything,
    ),
    max_size=5,
)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # of fields that are what they must not
@given(conversations, changes)
@example([HumanMessage(""), AIMessage("")], [(0, "a", 1), (0, "a", True), (0, "a", 1.0)])
@example(
    [HumanMessage(""), AIMessage("")],
    [(0, "a", 0.0), (0, "a", -0.0), (0, "a", ("a",)), (0, "a", ["a"])],
)
@example([HumanMessage(""), AIMessage("")], [(0, "a", b"a"), (0, "a", array("b", b"a"))])
@example([HumanMessage(""), AIMessage("")], [(0, "a", {b"a": 1}), (0, "a", {Name(b"a"): 1})])
@example([HumanMessage(""), SystemMessage("")], [(0, "type", "system")])
@example([HumanMessage(""), AIMessage("")], [(0, "custom", 1), (0, "custom", 2)])
@example([HumanMessage(""), AIMessage("")], [(0, "custom", b"a"), (0, "custom", array("b", b"a"))])
@effort(150)
def test_a_message_that_was_changed_is_written_as_it_is_now(
    several: list[Any], changes: list[tuple[int, str, Any]]
) -> None:
    """Otherwise, a user's edit of a message would be lost."""
    serde = remembering()
    for at, name, value in [*changes, (0, "content", "the end")]:
        for _ in range(TIMES):
            expected = outcome(PERMISSIVE.dumps_typed, several)
            assert outcome(serde.dumps_typed, several) == expected
        message = several[at % len(several)]
        if name != "a":
            setattr(message, name, value)
        elif isinstance(message.additional_kwargs, dict):
            message.additional_kwargs["a"] = value


def test_a_message_that_is_read_is_the_callers_own() -> None:
    """Otherwise, what one run does to its messages would turn up in another, or another thread."""
    serde = remembering()
    call = {"name": "look", "args": {"at": ["a", {"b": 1}]}, "id": "1", "type": "tool_call"}
    message = AIMessage(
        [{"type": "text", "text": "a"}],
        tool_calls=[call],
        response_metadata={"usage": {"tokens": [1, 2]}},
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    )
    typed = PERMISSIVE.dumps_typed([message, HumanMessage("b", custom={"of": ["the user"]})])
    expected = exactly(PERMISSIVE.loads_typed(typed))
    for _ in range(TIMES + 1):
        read = serde.loads_typed(typed)
        assert exactly(read) == expected
        for found in read:
            _spoil(found.__dict__)
            _spoil(found.model_extra)
            found.model_fields_set.clear()


def _spoil(value: Any) -> None:
    """Change all that can be changed within a value."""
    items = value.values() if isinstance(value, dict) else value
    for item in [*items]:
        if isinstance(item, dict | list):
            _spoil(item)
    value.clear()
    if isinstance(value, dict):
        value["spoilt"] = True
    else:
        value.append("spoilt")


def test_a_message_that_changes_while_it_is_written_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise, another thread's edit would be put in the place of what was there before it."""
    serde, message = remembering(), HumanMessage("before")
    original = HumanMessage.model_dump

    def interrupted(self: HumanMessage, **options: Any) -> Any:
        message.content = "after"
        return original(self, **options)

    before = [AIMessage("first"), HumanMessage("before")]
    for _ in range(2):
        serde.dumps_typed(before)
    with monkeypatch.context() as patch:
        patch.setattr(HumanMessage, "model_dump", interrupted)
        serde.dumps_typed([AIMessage("first"), message])
    assert serde.dumps_typed(before) == PERMISSIVE.dumps_typed(before)


@pytest.mark.parametrize("change", ["append", "pop", "clear", "reverse"])
def test_a_list_that_changes_while_it_is_written_is_written_as_it_was(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Otherwise, a checkpoint would hold garbage if a node appends to its list meanwhile."""
    serde = remembering()
    messages: list[BaseMessage] = [HumanMessage(f"{number}") for number in range(5)]
    expected = PERMISSIVE.dumps_typed([*messages])
    original = HumanMessage.model_dump

    def interrupted(self: HumanMessage, **options: Any) -> Any:
        getattr(value, change)(*([AIMessage("more")] if change == "append" else []))
        return original(self, **options)

    monkeypatch.setattr(HumanMessage, "model_dump", interrupted)
    for _ in range(TIMES):
        value = [*messages]
        assert serde.dumps_typed(value) == expected


def test_a_list_that_another_thread_appends_to_can_always_be_read() -> None:
    """Otherwise, one checkpoint in ten of a graph that appends in place would be lost."""
    serde, ended = remembering(), threading.Event()
    messages: list[BaseMessage] = [HumanMessage(f"{number}" * 100) for number in range(60)]
    value = [*messages]

    def append() -> None:
        while not ended.wait(0.0001):
            value.append(AIMessage("more"))

    appending = threading.Thread(target=append)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    appending.start()
    try:
        for _ in range(300):
            read = PERMISSIVE.loads_typed(serde.dumps_typed(value))
            assert len(read) >= len(messages)
            assert {*map(type, read)} <= {HumanMessage, AIMessage}
            value[:] = messages
    finally:
        ended.set()
        appending.join()
        sys.setswitchinterval(interval)


def test_a_message_that_is_another_only_while_it_is_written_is_remembered_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise, another thread's passing edit would be written for every message like it."""
    serde, message = remembering(), HumanMessage("before")
    original = HumanMessage.model_dump

    def interrupted(self: HumanMessage, **options: Any) -> Any:
        message.content = "for a moment"
        try:
            return original(self, **options)
        finally:
            message.content = "before"

    before = [AIMessage("first"), HumanMessage("before")]
    for _ in range(2):
        serde.dumps_typed(before)
    with monkeypatch.context() as patch:
        patch.setattr(HumanMessage, "model_dump", interrupted)
        for _ in range(TIMES):
            serde.dumps_typed([AIMessage("first"), message])
    assert serde.dumps_typed(before) == PERMISSIVE.dumps_typed(before)


def at_depth(frames: int, call: Callable[[], None]) -> None:
    """Call something with that many frames of Python below it."""
    if frames:
        at_depth(frames - 1, call)
    else:
        call()


@pytest.mark.parametrize("levels", [30, 60])
def test_a_deeply_nested_message_is_written_and_read_wherever_the_serializer_does(
    levels: int,
) -> None:
    """Otherwise, a message would be refused, or be told as damage, when it comes a second time."""
    nested: Any = 1
    for _ in range(levels):
        nested = {"a": [nested]}
    value = [HumanMessage("a", additional_kwargs={"a": nested}), HumanMessage("b")]
    serde = remembering()

    def write_and_read() -> None:
        typed = PERMISSIVE.dumps_typed(value)
        for _ in range(TIMES):
            assert serde.dumps_typed(value) == typed
            assert PERMISSIVE.dumps_typed(serde.loads_typed(typed)) == typed

    at_depth(sys.getrecursionlimit() - len(inspect.stack()) - 100, write_and_read)


def without_extra(message: HumanMessage) -> None:
    object.__delattr__(message, "__pydantic_extra__")


def with_itself_inside(message: HumanMessage) -> None:
    message.additional_kwargs["a"] = message.additional_kwargs


def with_another_dict(message: HumanMessage) -> None:
    object.__setattr__(message, "__dict__", OrderedDict(message.__dict__))


def with_an_odd_name(message: HumanMessage) -> None:
    message.__dict__[1] = "a"  # type: ignore[index]  # nobody would


def without_content(message: HumanMessage) -> None:
    del message.__dict__["content"]


def too_deep(message: HumanMessage) -> None:
    nested: Any = 1
    for _ in range(5_000):
        nested = [nested]
    message.additional_kwargs["a"] = nested


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # of fields that are what they must not
@pytest.mark.parametrize(
    "spoil",
    [
        without_extra,
        with_itself_inside,
        with_another_dict,
        with_an_odd_name,
        without_content,
        too_deep,
    ],
)
def test_a_message_that_was_tampered_with_is_left_to_the_serializer(
    spoil: Callable[[HumanMessage], None],
) -> None:
    """Otherwise, a put would fail of an error that nobody can make sense of."""
    serde, message = remembering(), HumanMessage("a")
    spoil(message)
    for value in [[message, AIMessage("b")], [AIMessage("b"), message]]:
        expected = outcome(PERMISSIVE.dumps_typed, value)
        for _ in range(TIMES):
            assert outcome(serde.dumps_typed, value) == expected


def test_messages_next_to_other_objects_are_read_as_the_serializer_does() -> None:
    """Otherwise, a list that begins with a message would have to be one of messages."""
    serde = remembering()
    message, uuid = HumanMessage("a"), UUID(int=1)
    for value in [
        [message, {"a": AIMessage("b")}],
        [message, uuid],
        [uuid],
        [message, {uuid: 1}],
        [message, [message]],
    ]:
        typed = PERMISSIVE.dumps_typed(value)
        expected = exactly(PERMISSIVE.loads_typed(typed))
        for _ in range(TIMES):
            assert exactly(serde.loads_typed(typed)) == expected


def test_messages_of_other_classes_are_serialized_each_time() -> None:
    """Otherwise, what a class of the user's keeps beside its fields would be lost."""
    serde, message = remembering(), Shouted(content="a")
    for loud in (*[False] * TIMES, True):
        message._loud = loud
        value = [AIMessage("first"), message]
        assert serde.dumps_typed(value) == PERMISSIVE.dumps_typed(value)


def test_what_has_the_bytes_of_a_message_is_not_taken_for_one() -> None:
    """Otherwise, a value of another kind would become a message."""
    serde = remembering()
    _, data = PERMISSIVE.dumps_typed(HumanMessage("a"))
    assert data[:3] == b"\xc7\x86\x05"  # an extension of a byte's length, and its kind
    for kind in (5, 5, 5, 0, 1, 3, 6):
        typed = "msgpack", b"\xc7\x86" + bytes([kind]) + data[3:]
        assert exactly(serde.loads_typed(typed)) == exactly(PERMISSIVE.loads_typed(typed))


class Upper(JsonPlusSerializer):
    """A serializer of a user's own."""


def test_a_serializer_that_is_passed_in_is_used_as_it_is() -> None:
    """Otherwise, what a user does in it would be left out from the second time on."""
    for serde in (Upper(), PERMISSIVE, EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 16)):
        saver = RedisSaver("redis://nowhere.invalid", serde=serde)
        assert saver.serde is saver._context.serde is serde
    assert type(RedisSaver("redis://nowhere.invalid").serde) is CachingSerializer


def test_a_hook_of_the_users_reads_every_message() -> None:
    """Otherwise, what it does would be left out from the second time on."""
    serde = remembering(__unpack_ext_hook__=lambda code, data: (code, data))
    typed = serde.dumps_typed([HumanMessage("a"), HumanMessage("b")])
    for _ in range(TIMES):
        assert all(type(item) is tuple for item in serde.loads_typed(typed))


def test_a_strict_serializer_reads_nothing_that_another_was_allowed_to() -> None:
    """Otherwise, an allowlist would not hold for what was read before without it."""
    strict = remembering(allowed_msgpack_modules=None)
    free = strict.with_msgpack_allowlist([Note])
    typed = PERMISSIVE.dumps_typed([Note(content="a"), HumanMessage("b")])
    for _ in range(3):
        assert free.loads_typed(typed) == [Note(content="a"), HumanMessage("b")]
        assert strict.loads_typed(typed) == [{"content": "a"}, HumanMessage("b")]


def test_a_message_is_made_and_serialized_only_while_it_is_new(
    drive: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, a turn would take the longer, the longer the conversation is."""
    session = Session(drive, chat())
    for number in range(3):
        session.say(f"number {number}")
    made = _counted(monkeypatch, "__init__")
    dumped = _counted(monkeypatch, "model_dump")
    session.say("the last")
    assert "number 0" not in {message.content for message in made}
    assert {message.content for message in dumped} == {"the last"}


def _counted(monkeypatch: pytest.MonkeyPatch, method: str) -> list[HumanMessage]:
    """The messages of a human that this is called for from now on."""
    called: list[HumanMessage] = []
    original = getattr(HumanMessage, method)

    def count(self: HumanMessage, *args: Any, **options: Any) -> Any:
        called.append(self)
        return original(self, *args, **options)

    monkeypatch.setattr(HumanMessage, method, count)
    return called


@pytest.mark.parametrize("capacity", [0, 5_000, 50_000])
def test_what_is_remembered_of_messages_is_bounded(capacity: int) -> None:
    """Otherwise, a process that serves many threads would run out of memory."""
    remembered: Recent[int] = Recent(capacity, beside=100)
    keys = [f"{number:0100}".encode() for number in range(5_000)]
    sizes = []
    for number, key in enumerate(keys):
        remembered.keep(key, number)
        assert remembered.get(key) == number
        sizes.append(300 * len(remembered))
    assert max(sizes) <= max(capacity, 300)
    assert sum(sizes) / len(sizes) >= capacity // 3, "it is emptied all the time"


def test_what_is_written_once_takes_no_more_time_and_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, the first turn of each conversation would take longer than without a memory."""
    serde = remembering()
    plain, written = PERMISSIVE.dumps_typed, []

    def dump(_: JsonPlusSerializer, value: Any) -> tuple[str, bytes]:
        written.append(value)
        return original(PERMISSIVE, value)

    original = JsonPlusSerializer.dumps_typed
    monkeypatch.setattr(JsonPlusSerializer, "dumps_typed", dump)
    new = [[HumanMessage(f"{number} {at}") for at in range(5)] for number in range(5)]
    for value in new:
        serde.dumps_typed(value)
    assert written == new
    polite = SystemMessage("You are kind.")
    for number in range(5):
        serde.dumps_typed([polite, HumanMessage(f"only once {number}")])
    assert [*serde.messages.written.values()] == [plain(polite)[1]]


def test_what_is_read_once_pushes_nothing_out() -> None:
    """Otherwise, who reads all threads once would slow those down that are being talked in."""
    serde = remembering(capacity=200_000)
    used = PERMISSIVE.dumps_typed([HumanMessage("used " * 100)])
    memory = serde.messages.read
    for number in range(2_000):
        serde.loads_typed(used)
        serde.loads_typed(PERMISSIVE.dumps_typed([HumanMessage(f"met once {number} " * 20)]))
    assert len(memory) == 1
    for number in range(2 * MET):
        memory.is_met_again(f"{number}".encode())
    assert len(memory._met) <= MET


def test_a_large_message_is_not_remembered() -> None:
    """Otherwise, a few files in a conversation would push all other messages out."""
    serde = remembering(2**24)
    memory = serde.messages
    value = [HumanMessage("a" * LARGE), HumanMessage("b" * LARGE)]
    for _ in range(TIMES):
        assert serde.loads_typed(serde.dumps_typed(value)) == value
    assert not memory.written
    assert not memory.read


def test_messages_of_another_pydantic_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, what a later release keeps in a model would be missing in what is copied."""
    known = HumanMessage.__getstate__
    monkeypatch.setattr(
        HumanMessage, "__getstate__", lambda self: {**known(self), "__pydantic_more__": 1}
    )
    serde = remembering()
    memory = serde.messages
    for _ in range(3):
        serde.loads_typed(PERMISSIVE.dumps_typed([HumanMessage("a"), AIMessage("b")]))
    assert [*memory.shapes.values()] == [AIMessage]


RAW_CALLS = {"tool_calls": [{"id": "a", "function": {"name": "a", "arguments": "{}"}}]}


def talk(number: int) -> list[BaseMessage]:
    """What an agent talks that uses a tool; each time it is another talk."""
    text = f"{number}"
    usage = {"input_tokens": number, "output_tokens": number, "total_tokens": number}
    told: dict[str, Any] = {
        "id": text,
        "response_metadata": {"model_name": "a", "id": text, "token_usage": {text: number}},
        "usage_metadata": usage | {"input_token_details": {"cache_read": number}},
    }
    call = {"name": text, "args": {text: [number]}, "id": text, "type": "tool_call"}
    return [
        SystemMessage(text, id=text),
        HumanMessage(text, id=text),
        AIMessage("", tool_calls=[call], additional_kwargs={"refusal": None}, **told),
        ToolMessage(text, id=text, name=text, tool_call_id=text),
        AIMessage([{"type": "text", "text": text}], **told),
        AIMessage("", tool_calls=[call], additional_kwargs=RAW_CALLS, **told),
    ]


def written(kind: type[BaseMessage], fields: Any) -> bytes:
    """A message of any fields as the serializer writes it."""
    parts = [kind.__module__, kind.__name__, fields, "model_validate_json"]
    return msgpack.packb([msgpack.ExtType(5, msgpack.packb(parts))])


def test_a_message_with_fields_like_those_of_others_is_not_validated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise, the first turn of a conversation in a process would take longer."""
    serde = remembering()
    for number in range(3):
        serde.loads_typed(PERMISSIVE.dumps_typed(talk(number)))
    typed = PERMISSIVE.dumps_typed(talk(4))
    expected = exactly(PERMISSIVE.loads_typed(typed))
    for kind in MESSAGES:
        monkeypatch.setattr(kind, "__init__", None)
    assert exactly(serde.loads_typed(typed)) == expected


other_call = {"name": "a", "args": {"a": 1}, "id": "a", "type": "tool_call"}
near: list[Any] = [
    None,
    True,
    0,
    2**63,
    1.0,
    1.5,
    "",
    "a",
    "human",
    "1",
    "error",
    (1,),
    b"a",
    [],
    {},
]
near += [RAW_CALLS, [*RAW_CALLS.values()], [other_call], [1], ["a", 1], {1: 1}, {"a": True}]


def nearby(value: Any) -> Iterator[Any]:
    """What a value may be instead if others wrote it, or nobody validated it: all that is near."""
    yield from near
    if isinstance(value, list):
        yield [*value, *value]
        for at, item in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in nearby(item))
    if isinstance(value, dict):
        yield dict(reversed(value.items()))
        yield value | {"a": 1}
        for key, item in value.items():
            yield {name: item for name, item in value.items() if name != key}
            yield from (value | {key: other} for other in nearby(item))


@pytest.mark.parametrize("at", range(len(talk(0))))
def test_only_what_is_valid_as_it_stands_is_made_of_its_fields(at: int) -> None:
    """Otherwise, a message that LangChain puts right when it is read would stay wrong."""
    serde = remembering()
    for number in range(3):
        serde.loads_typed(PERMISSIVE.dumps_typed(talk(number)))
    message = talk(1)[at]
    assert PERMISSIVE.dumps_typed([message])[1] == written(type(message), message.__dict__)
    for fields in nearby(message.__dict__):
        typed = "msgpack", written(type(message), fields)
        expected = outcome(PERMISSIVE.loads_typed, typed)
        for _ in range(3):
            assert outcome(serde.loads_typed, typed) == expected


def test_the_validators_of_messages_are_known() -> None:
    """A release of LangChain with others must be looked at; until then, reading is slower."""
    assert len(BEGINNINGS) == len(MESSAGES)


def test_messages_that_others_validate_are_not_made_of_their_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise, what a later release of LangChain changes in a message would be left out."""
    monkeypatch.setattr(shapes, "VALIDATORS", {"coerce_args"})
    assert beginnings() == tuple(one for one in BEGINNINGS if b"AIMessage" not in one)
    for kind in MESSAGES:
        monkeypatch.setattr(kind, "__pydantic_decorators__", None)  # as in another Pydantic
    assert beginnings() == ()
