"""A gRPC server of bytes, without generated code: one method of each kind."""
import threading
import time
from concurrent import futures

import grpc

cancelled = threading.Event()


def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("x-why", "asked"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as it was asked")
    if request == b"was-cancelled":
        return b"yes" if cancelled.wait(5) else b"no"
    if request == b"slow":
        context.add_callback(cancelled.set)
        time.sleep(3)
    context.set_trailing_metadata((("x-end", "reached"),))
    return b"echo " + request


def down(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def up(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def both(requests, context):
    for request in requests:
        yield request + b"!"


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mall.Echo", handlers),))
server.add_insecure_port("[::]:9000")
server.start()
server.wait_for_termination()
