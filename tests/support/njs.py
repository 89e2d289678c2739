"""edge.js and control.js in a real nginx, with calls of the test's own, so that they can be compared with the core."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import httpx

from agezero.edges.nginx.binary import find_nginx
from support.waiting import wait_for

SLOTS = 2**8
"""Few, so that collisions are common."""

_CONF = """
daemon off; pid pid; error_log stderr; {load}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    client_body_buffer_size 4m; client_max_body_size 4m;
    js_path .;
    js_shared_dict_zone zone=agezero_table:1m type=number;
    js_shared_dict_zone zone=agezero_local:1m type=number;
    js_shared_dict_zone zone=agezero_text:64k;
    js_import control from control.js;
    js_import compare from compare.js;
    server {{
        listen unix:njs.sock;
        location / {{ js_content control.handle; }}
        location /compare/ {{ js_content compare.handle; }}
    }}
}}
"""
_COMPARE = """
import edge from 'edge.js';

function urls(pairs) {
    return pairs.map((pair) => {
        const target = Buffer.from(pair[1], 'hex');
        const variables = { agezero_url: pair[0] + target.toString(), agezero_authority: pair[0] };
        try {
            return edge.canonicalUrl({ variables, rawVariables: { request_uri: target } });
        } catch (error) {
            return '';
        }
    });
}

function clear() {
    ['agezero_table', 'agezero_local', 'agezero_text'].forEach((zone) => ngx.shared[zone].clear());
    return {};
}

const CALLS = { '/compare/urls': urls, '/compare/newest': (given) => given.map(edge.newest), '/compare/clear': clear };

function handle(r) {
    r.return(200, JSON.stringify(CALLS[r.uri](JSON.parse(r.requestText))));
}

export default { handle };
"""


class Njs:
    """``call`` posts JSON and returns the answer."""

    def __init__(self, socket: Path) -> None:
        self.client = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://njs", timeout=30)

    def call(self, path: str, body: Any) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()


@contextmanager
def running_njs(home: Path, mutation: tuple[str, str] | None = None) -> Iterator[Njs]:
    """``mutation``: a text of edge.js and what stands in its place."""
    package = resources.files("agezero.edges.nginx")
    edge = package.joinpath("edge.js").read_text()
    if mutation:
        assert mutation[0] in edge
        edge = edge.replace(*mutation)
    nginx = find_nginx()
    files = {
        "edge.js": edge,
        "control.js": package.joinpath("control.js").read_text(),
        "compare.js": _COMPARE,
        "settings.js": f"export default {json.dumps({'slots': SLOTS, 'lease_checked': True})};",
        "nginx.conf": _CONF.format(load=f"load_module {nginx.module};" if nginx.module else ""),
    }
    for name, text in files.items():
        (home / name).write_text(text)
    process = subprocess.Popen([nginx.binary, "-p", f"{home}/", "-e", "stderr", "-c", home / "nginx.conf"], cwd=home, start_new_session=True)
    try:
        wait_for((home / "njs.sock").exists, "nginx to listen")
        njs = Njs(home / "njs.sock")
        with njs.client:
            yield njs
    finally:
        process.terminate()
        process.wait(10)
