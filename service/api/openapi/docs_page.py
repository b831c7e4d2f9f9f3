"""The page to read the OpenAPI document: one HTML text without scripts and without any other address."""

import json
import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
nav li { margin: .3rem 0; }
section { border-top: 1px solid #8888; margin-top: 2rem; }
article { margin: 1.5rem 0; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid #8888; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884; }
.method { text-transform: uppercase; font-weight: 600; }
summary { cursor: pointer; padding: .3rem 0; }
@media print { nav { display: none; } details > * { display: block; } }
"""
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
"""The content security policy of the page: its own style, and nothing else."""

_CODE = re.compile(r"`([^`]+)`")
Document = Mapping[str, Any]


def docs_page(document: Document) -> str:
    """Return the page for an OpenAPI document."""
    info, by_tag = document["info"], defaultdict[str, list[str]](list)
    links: dict[str, list[str]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            (tag,) = operation["tags"]
            by_tag[tag].append(_operation(path, method, operation))
            name = f'<span class="method">{method}</span> <code>{escape(path)}</code>'
            links[tag].append(
                f'<li><a href="#{operation["operationId"]}">{name}</a> {_text(operation["summary"])}</li>'
            )
    tags = [tag for tag in document["tags"] if tag["name"] in by_tag]
    contents = "".join(f"<h2>{escape(each['name'])}</h2><ul>{''.join(links[each['name']])}</ul>" for each in tags)
    sections = "".join(
        f"<section><h2>{escape(each['name'])}</h2><p>{_text(each['description'])}</p>{''.join(by_tag[each['name']])}</section>"
        for each in tags
    )
    title = escape(f"{info['title']} API")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><header><h1>{title}</h1><p>{_text(info['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json"><code>/openapi.json</code></a>.</p></header>'
        f'<nav aria-label="Operations">{contents}</nav><main>{sections}{_schemas(document)}</main></body></html>'
    )


def _operation(path: str, method: str, operation: Document) -> str:
    heading = f'<span class="method">{method}</span> <code>{escape(path)}</code>'
    parts = [
        f'<article id="{operation["operationId"]}"><h3>{heading}</h3>',
        f"<p><strong>{_text(operation['summary'])}</strong></p><p>{_text(operation['description'])}</p>",
        _parameters(operation.get("parameters", ())),
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_example(f"Body, {media_type}", content))
    rows = []
    for status, response in operation["responses"].items():
        examples = [_example(media, content) for media, content in response.get("content", {}).items()]
        headers = ", ".join(f"<code>{escape(name)}</code>" for name in response.get("headers", {}))
        more = f" Headers: {headers}." if headers else ""
        rows.append(f"<tr><td>{status}</td><td>{_text(response['description'])}{more}{''.join(examples)}</td></tr>")
    parts.append(f"<table><tr><th>Status</th><th>Response</th></tr>{''.join(rows)}</table></article>")
    return "".join(parts)


def _parameters(parameters: Any) -> str:
    if not parameters:
        return ""
    rows = [
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{_text(each['description'])} <code>{_json(each['schema'])}</code></td></tr>"
        for each in parameters
    ]
    return f"<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>{''.join(rows)}</table>"


def _example(title: str, content: Document) -> str:
    shown = _json(content.get("example"), indent=2)
    schema = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    link = f' <a href="#schema-{escape(schema)}">{escape(schema)}</a>' if schema else ""
    return f"<details><summary>{escape(title)}</summary>{link}<pre>{shown}</pre></details>"


def _schemas(document: Document) -> str:
    found = document["components"]["schemas"].items()
    items = "".join(
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<pre>{_json(schema, indent=2)}</pre></details>"
        for name, schema in found
    )
    return f"<section><h2>Schemas</h2>{items}</section>"


def _json(value: object, indent: int | None = None) -> str:
    return escape(json.dumps(value, indent=indent, ensure_ascii=False))


def _text(text: str) -> str:
    """Return a description as HTML: paragraphs stay lines, and what is between backquotes becomes code."""
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace("\n\n", "</p><p>")
