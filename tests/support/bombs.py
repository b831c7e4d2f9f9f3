"""Decompression bombs: small bodies that inflate to hundreds of megabytes, made without compressing that much."""

import zlib
from functools import cache

MB = 1024 * 1024
GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"


def _deflated(byte: bytes, megabytes: int) -> bytes:
    """Return one raw deflate stream; after a full flush the same block may follow again (RFC 1951, zlib.h)."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(byte * MB) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + packer.flush()


@cache
def gzip_bomb(byte: bytes, megabytes: int) -> bytes:
    """Return one gzip member (RFC 1952) of `megabytes` times a megabyte of `byte`."""
    checksum, block = 0, byte * MB
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    size = megabytes * MB
    return GZIP_HEAD + _deflated(byte, megabytes) + checksum.to_bytes(4, "little") + size.to_bytes(4, "little")


@cache
def zlib_bomb(byte: bytes, megabytes: int) -> bytes:
    """Return one zlib stream (RFC 1950) of `megabytes` times a megabyte of `byte`."""
    checksum, block = 1, byte * MB
    for _ in range(megabytes):
        checksum = zlib.adler32(block, checksum)
    return b"\x78\xda" + _deflated(byte, megabytes) + checksum.to_bytes(4, "big")
