"""How chunks are stored: as they are, or compressed. Each begins with a byte that says so.

| byte | the rest is                                                        |
|------|--------------------------------------------------------------------|
| 0    | the chunk                                                          |
| 1    | the chunk, compressed by zlib with the preset dictionary below     |
| 2    | the chunk, compressed by Zstandard with the same dictionary, raw   |

A chunk is named by its content, not by how it is stored; so any setting reads what any other wrote.
Nodes are always stored as they are, since scripts read them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from threading import local
from typing import Literal

from langgraph_checkpoint_redis.errors import ConfigError, MissingLibraryError

try:
    import zstandard
except ImportError:  # it is an extra: needed only where it is asked for, or met
    zstandard = None  # type: ignore[assignment]

Compression = Literal["zlib", "zstd"]

SMALLEST = 256  # bytes: smaller pieces stay as they are
PLAIN, ZLIB, ZSTD = b"\0", b"\1", b"\2"
# How many bytes one may stand for at most, so that no damaged or hostile chunk fills the memory:
# about what zlib comes to. What Zstandard would pack tighter is left to zlib.
TIGHTEST = 1100
# Bytes that a compressed chunk may stand for in any case: what a server takes of a chunk as it is.
LARGEST = 2**29

# What LangChain's messages have in common, most of a short one. Never to change: it is part of
# the format.
DICTIONARY = (
    b"\xc7\xa4\x05\x94\xbelangchain_core.messages.system\xadSystemMessage\x86\xa7content\xbcYou"
    b" are a helpful assistant.\xb1additional_kwargs\x80\xb1response_metadata\x80\xa4type\xa6sy"
    b"stem\xa4name\xc0\xa2id\xc0\xb3model_validate_json\xc7\xbb\x05\x94\xbclangchain_core.messa"
    b"ges.tool\xabToolMessage\x89\xa7content\xa0\xb1additional_kwargs\x80\xb1response_metadata"
    b"\x80\xa4type\xa4tool\xa4name\xa6search\xa2id\xa10\xactool_call_id\xabtoolu_call_\xa8artif"
    b"act\xc0\xa6status\xa7success\xb3model_validate_json\xc7\xa2\x05\x94\xbdlangchain_core.mes"
    b"sages.human\xacHumanMessage\x86\xa7content\x91\x83\xa4type\xa4text\xa4text\xa0\xa9image_u"
    b"rl\xa0\xb1additional_kwargs\x80\xb1response_metadata\x80\xa4type\xa5human\xa4name\xc0\xa2"
    b"id\xa10\xb3model_validate_json\xc8\x02!\x05\x94\xbalangchain_core.messages.ai\xa9AIMessag"
    b"e\x89\xa7content\xa0\xb1additional_kwargs\x80\xb1response_metadata\x8a\xa2id\xa4msg_\xa5m"
    b"odel\xa7claude-\xabstop_reason\xa8end_turn\xadstop_sequence\xc0\xa5usage\x85\xbbcache_cre"
    b"ation_input_tokens\x00\xb7cache_read_input_tokens\x00\xacinput_tokens\x00\xadoutput_token"
    b"s\x00\xacservice_tier\xa8standard\xadfinish_reason\xa4stop\xaamodel_name\xa4gpt-\xaemodel"
    b"_provider\xa6openai\xb2system_fingerprint\xc0\xabtoken_usage\x83\xb1completion_tokens\x00"
    b"\xadprompt_tokens\x00\xactotal_tokens\x00\xa4type\xa2ai\xa4name\xc0\xa2id\xa9lc_run--0"
    b"\xaatool_calls\x91\x84\xa4name\xa6search\xa4args\x81\xa5query\xa0\xa2id\xabtoolu_call_"
    b"\xa4type\xa9tool_call\xb2invalid_tool_calls\x90\xaeusage_metadata\xc0\xb3model_validate_j"
    b"son\xc7\x86\x05\x94\xbdlangchain_core.messages.human\xacHumanMessage\x86\xa7content\xa0"
    b"\xb1additional_kwargs\x80\xb1response_metadata\x80\xa4type\xa5human\xa4name\xc0\xa2id\xa1"
    b"0\xb3model_validate_json\xc8\x02t\x05\x94\xbalangchain_core.messages.ai\xa9AIMessage\x89"
    b"\xa7content\xa0\xb1additional_kwargs\x80\xb1response_metadata\x8a\xa2id\xa4msg_\xa5model"
    b"\xa7claude-\xabstop_reason\xa8end_turn\xadstop_sequence\xc0\xa5usage\x85\xbbcache_creatio"
    b"n_input_tokens\x00\xb7cache_read_input_tokens\x00\xacinput_tokens\x00\xadoutput_tokens"
    b"\x00\xacservice_tier\xa8standard\xadfinish_reason\xa4stop\xaamodel_name\xa4gpt-\xaemodel_"
    b"provider\xa6openai\xb2system_fingerprint\xc0\xabtoken_usage\x83\xb1completion_tokens\x00"
    b"\xadprompt_tokens\x00\xactotal_tokens\x00\xa4type\xa2ai\xa4name\xc0\xa2id\xa9lc_run--0"
    b"\xaatool_calls\x90\xb2invalid_tool_calls\x90\xaeusage_metadata\x85\xacinput_tokens\x00"
    b"\xadoutput_tokens\x00\xactotal_tokens\x00\xb3input_token_details\x83\xa5audio\x00\xaecach"
    b"e_creation\x00\xaacache_read\x00\xb4output_token_details\x82\xa5audio\x00\xa9reasoning"
    b"\x00\xb3model_validate_json"
)


def check_compression(compression: Compression | None) -> None:
    """Raise an error for a compression that there is not, or whose library is not installed."""
    if compression not in (None, "zlib", "zstd"):
        raise ConfigError(f'compression must be None, "zlib" or "zstd", not {compression!r:.200}')
    if compression == "zstd":
        _Zstd()  # not the one that this worker thread may have already


def compress_chunk(content: bytes, compression: Compression | None) -> bytes:
    """A piece as it is stored."""
    if compression and SMALLEST <= len(content) <= LARGEST:
        packed = _PACK[compression](content)
        if len(content) > TIGHTEST * len(packed):
            packed = _deflate(content)
        if len(packed) <= len(content):
            return packed
    return PLAIN + content


def decompress_chunk(chunk: bytes) -> bytes:
    """The content of a stored chunk; raises `ValueError` if it cannot be read."""
    if chunk.startswith(PLAIN):
        return chunk[1:]
    codec, packed = chunk[:1], chunk[1:]
    if codec == ZLIB:
        return _inflate(packed)
    if codec == ZSTD:
        return _zstd().decompress(packed)
    raise ValueError(f"chunk is stored in an unknown way: {codec!r}")


def _deflate(content: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    return ZLIB + deflate.compress(content) + deflate.flush()


def _inflate(packed: bytes) -> bytes:
    inflate = zlib.decompressobj(zdict=DICTIONARY)
    try:
        content = inflate.decompress(packed, 1 + min(LARGEST, TIGHTEST * (1 + len(packed))))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > LARGEST or inflate.unconsumed_tail:
        raise ValueError("chunk is packed too tightly")
    if not inflate.eof:
        raise ValueError("chunk is cut short")
    return content


class _Zstd(local):
    """Zstandard's tools, which threads must not share."""

    def __init__(self) -> None:
        if zstandard is None:
            raise MissingLibraryError(
                "zstandard is not installed: pip install langgraph-checkpoint-redis-core[zstd]"
            )
        dictionary = zstandard.ZstdCompressionDict(DICTIONARY, zstandard.DICT_TYPE_RAWCONTENT)
        self._compress = zstandard.ZstdCompressor(
            dict_data=dictionary, write_checksum=True
        ).compress
        self._decompress = zstandard.ZstdDecompressor(dict_data=dictionary).decompress

    def compress(self, content: bytes) -> bytes:
        return ZSTD + self._compress(content)

    def decompress(self, packed: bytes) -> bytes:
        try:
            if zstandard.frame_content_size(packed) > min(LARGEST, TIGHTEST * (1 + len(packed))):
                raise ValueError("chunk is packed too tightly")
            return self._decompress(packed)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error


@cache
def _zstd() -> _Zstd:
    return _Zstd()


_PACK: dict[Compression, Callable[[bytes], bytes]] = {
    "zlib": _deflate,
    "zstd": lambda content: _zstd().compress(content),
}
