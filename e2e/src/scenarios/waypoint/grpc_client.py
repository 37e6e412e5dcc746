"""Calls of every kind through a waypoint; prints one line for each that went as it should."""
import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1])
unary = channel.unary_unary("/mall.Echo/Unary")
down = channel.unary_stream("/mall.Echo/Down")
up = channel.stream_unary("/mall.Echo/Up")
both = channel.stream_stream("/mall.Echo/Both")


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")
    print(what)


answer, call = unary.with_call(b"hello", timeout=10)
check("unary", answer, b"echo hello")
check("trailers", dict(call.trailing_metadata()).get("x-end"), "reached")
try:
    unary(b"fail", timeout=10)
    sys.exit("an error was asked for")
except grpc.RpcError as error:
    check("status", error.code(), grpc.StatusCode.FAILED_PRECONDITION)
    check("details", error.details(), "as it was asked")
    check("trailers of an error", dict(error.trailing_metadata()).get("x-why"), "asked")
check("server stream", [int(n) for n in down(b"1000", timeout=20)], list(range(1000)))
check("client stream", up((str(n).encode() for n in range(1000)), timeout=20), str(sum(range(1000))).encode())


def in_turn():
    for n in range(100):
        yield str(n).encode()


check("both ways", [bytes(b) for b in both(in_turn(), timeout=20)], [f"{n}!".encode() for n in range(100)])
large = b"x" * 3_000_000
check("a large message", len(unary(large, timeout=20)), len(large) + 5)
start = time.time()
try:
    unary(b"slow", timeout=0.5)
    sys.exit("a deadline was set")
except grpc.RpcError as error:
    check("deadline", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    check("the deadline was kept", time.time() - start < 2, True)
check("the server heard of the end", unary(b"was-cancelled", timeout=10), b"yes")
endless = both(iter(lambda: time.sleep(0.01) or b"more", None))
next(endless)
endless.cancel()
check("cancellation", endless.code(), grpc.StatusCode.CANCELLED)
