"""The site of the tutorials, on port 3000: each answer is another one, and may be kept for an hour."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

ANSWERS = count(1)


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"answer {next(ANSWERS)}\n".encode()
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 3000), Site).serve_forever()
