"""The services that a waypoint asks over gRPC: an authorizer, a rate limit service and a collector of
traces. Nothing is generated: messages are read by the numbers of their fields. Each call is printed."""
import json
from concurrent import futures

import grpc


def fields(data):
    """The fields of a message: pairs of a number and its value."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    found = []
    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            length = {1: 8, 5: 4}.get(kind) or varint()
            value = data[at : at + length]
            if len(value) != length or kind not in (1, 2, 5):
                raise ValueError(f"no message: field {key >> 3} of kind {kind}")
            at += length
        found.append((key >> 3, value))
    return found


def all_of(data, number):
    return [value for key, value in fields(data) if key == number]


def one(data, *numbers):
    """The field at the end of a path; nothing if it is not there."""
    for number in numbers:
        data = (all_of(data, number) or [b""])[-1]
    return data


def message(*parts):
    """A message of fields that are bytes, texts or small numbers."""
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += bytes([number << 3]) + (bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7]))
        else:
            value = value.encode() if isinstance(value, str) else value
            out += bytes([number << 3 | 2, len(value)]) + value
    return out


def pairs(messages):
    return {one(pair, 1).decode(): one(pair, 2).decode() for pair in messages}


def say(**what):
    print(json.dumps(what), flush=True)


def check(request, _context):
    http = one(request, 1, 4, 2)
    path, headers = one(http, 4).decode(), pairs(all_of(http, 3))
    say(asked="check", path=path, method=one(http, 2).decode(), principal=one(request, 1, 1, 4).decode(), user=headers.get("x-user"))
    if path.startswith("/door/no"):
        return message((1, message((1, 7))), (2, message((1, message((1, 402))), (3, "pay first"))))
    told = message((1, message((1, "x-door"), (2, "open"))))
    return message((1, b""), (3, message((2, told))))


def should_rate_limit(request, _context):
    entries = [pairs(all_of(one_of, 1)) for one_of in all_of(request, 2)]
    say(asked="limit", domain=one(request, 1).decode(), entries=entries)
    return message((1, 2 if any(entry.get("x-user") == "greedy" for entry in entries) else 1))


def attributes(messages):
    said = {}
    for pair in messages:
        value = one(pair, 2)
        text, number = all_of(value, 1), all_of(value, 3)
        said[one(pair, 1).decode()] = text[0].decode() if text else number[0] if number else None
    return said


def export(request, _context):
    for group in all_of(request, 1):
        resource = attributes(all_of(one(group, 1), 1))
        for scope in all_of(group, 2):
            for span in all_of(scope, 2):
                say(
                    asked="export",
                    trace=one(span, 1).hex(),
                    span=one(span, 2).hex(),
                    parent=one(span, 4).hex(),
                    name=one(span, 5).decode(),
                    nanoseconds=int.from_bytes(one(span, 8), "little") - int.from_bytes(one(span, 7), "little"),
                    attributes=attributes(all_of(span, 9)),
                    resource=resource,
                )
    return b""


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
for service, method, answer in [
    ("envoy.service.auth.v3.Authorization", "Check", check),
    ("envoy.service.ratelimit.v3.RateLimitService", "ShouldRateLimit", should_rate_limit),
    ("opentelemetry.proto.collector.trace.v1.TraceService", "Export", export),
]:
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
server.add_insecure_port("[::]:9000")
server.start()
server.wait_for_termination()
