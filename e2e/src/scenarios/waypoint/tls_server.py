"""An HTTPS server that says what it is called and which server name it was asked for."""
import http.server
import socket
import ssl
import sys

name, identity = sys.argv[1:]
with open("/tmp/identity.pem", "w") as file:
    file.write(identity)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.send_header("x-backend", name)
        self.send_header("x-server-name", getattr(self.connection, "asked_for", None) or "none")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def asked_for(connection, server_name, _context):
    connection.asked_for = server_name


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tmp/identity.pem")
context.sni_callback = asked_for
server = Server(("::", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
