"""Ordinary HTTP clients as programs of their own, which upload bodies and print what they see.

Each program reads a list of uploads as JSON from standard input and prints a JSON list with, for each, the status or
the client's own error as text.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

TIMEOUT = 300.0
"""Seconds for all uploads of a client."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A POST of `size` bytes, with Content-Length or in chunks; with `text`, which curl and java send instead."""

    url: str
    chunked: bool
    size: int = 0
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)


HTTPX = """
import httpx, json, sys
found = []
for each in json.load(sys.stdin):
    part = b"a" * 65536
    parts = (part for _ in range(each["size"] // len(part)))
    body = parts if each["chunked"] else b"".join(parts)
    try:
        with httpx.Client(trust_env=False, timeout=60) as http:
            found.append(http.post(each["url"], content=body, headers=each["headers"]).status_code)
    except Exception as error:
        found.append(repr(error))
print(json.dumps(found))
"""

REQUESTS = """
import json, requests, sys
found = []
for each in json.load(sys.stdin):
    part = b"a" * 65536
    parts = (part for _ in range(each["size"] // len(part)))
    body = parts if each["chunked"] else b"".join(parts)
    try:
        with requests.Session() as http:
            http.trust_env = False
            found.append(http.post(each["url"], data=body, headers=each["headers"], timeout=60).status_code)
    except Exception as error:
        found.append(repr(error))
print(json.dumps(found))
"""

AIOHTTP = """
import aiohttp, asyncio, json, sys
async def parts(each):
    for _ in range(each["size"] // 65536):
        yield b"a" * 65536
async def main():
    found = []
    for each in json.load(sys.stdin):
        body = parts(each) if each["chunked"] else b"a" * each["size"]
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as http:
                async with http.post(each["url"], data=body, headers=each["headers"]) as answer:
                    await answer.read()
                    found.append(answer.status)
        except Exception as error:
            found.append(repr(error))
    print(json.dumps(found))
asyncio.run(main())
"""

NODE = """
const uploads = JSON.parse(require("fs").readFileSync(0, "utf8"));
async function* parts(size) {
  for (let sent = 0; sent < size; sent += 65536) yield Buffer.alloc(65536, "a");
}
(async () => {
  const found = [];
  for (const each of uploads) {
    const body = each.chunked ? ReadableStream.from(parts(each.size)) : Buffer.alloc(each.size, "a");
    try {
      const options = { method: "POST", headers: each.headers, body, duplex: "half" };
      const answer = await fetch(each.url, options);
      await answer.text();
      found.push(answer.status);
    } catch (error) {
      found.push(String(error) + " " + String(error.cause));
    }
  }
  console.log(JSON.stringify(found));
})();
"""

CURL = """
import json, os, subprocess, sys
found = []
for each in json.load(sys.stdin):
    with open("body", "wb") as file:
        file.write(each["text"].encode() or b"a" * each["size"])
    headers = [part for name, value in each["headers"].items() for part in ("-H", f"{name}: {value}")]
    how = ["-H", "Transfer-Encoding: chunked"] if each["chunked"] else []
    command = ["curl", "-q", "-sS", "--max-time", "60", "--noproxy", "*", "-o", os.devnull, "-w", "%{http_code}",
               "-X", "POST", *headers, *how, "--data-binary", "@body", each["url"]]
    done = subprocess.run([*command, *OPTIONS], capture_output=True, text=True)
    found.append(int(done.stdout) if done.returncode == 0 else f"curl {done.returncode}: {done.stderr.strip()}")
print(json.dumps(found))
"""

JAVA = """
import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.util.*;

public class Upload {
    public static void main(String[] arguments) throws Exception {
        HttpClient http = HttpClient.newHttpClient();
        List<String> found = new ArrayList<>();
        for (int i = 1; i < arguments.length; i += 4) {
            byte[] body = arguments[i + 3].getBytes("UTF-8");
            if (body.length == 0) {
                body = new byte[Integer.parseInt(arguments[i + 1])];
                Arrays.fill(body, (byte) 'a');
            }
            byte[] sent = body;
            HttpRequest.BodyPublisher publisher = arguments[i + 2].equals("chunked")
                ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(sent))
                : HttpRequest.BodyPublishers.ofByteArray(body);
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[i])).POST(publisher);
            for (String header : arguments[0].split("\\n")) {
                String[] parts = header.split(": ", 2);
                if (parts.length == 2) request.header(parts[0], parts[1]);
            }
            try {
                found.add("" + http.send(request.build(), HttpResponse.BodyHandlers.discarding()).statusCode());
            } catch (IOException error) {
                found.add("\\"" + error.toString().replace("\\"", "'") + "\\"");
            }
        }
        System.out.println(found);
    }
}
"""

PROGRAMS = {
    "httpx": HTTPX,
    "requests": REQUESTS,
    "aiohttp": AIOHTTP,
    "node": NODE,
    "curl": "OPTIONS = []\n" + CURL,
    "curl --http2": "OPTIONS = ['--http2']\n" + CURL,
    "java": JAVA,
}


def missing(client: str) -> str | None:
    """Return why `client` cannot run here, or None."""
    name = client.partition(" ")[0]
    found = importlib.util.find_spec(name) if name in {"httpx", "requests", "aiohttp"} else shutil.which(name)
    return None if found else f"{name} is not installed"


def upload(client: str, uploads: Sequence[Upload], home: Path) -> list[int | str]:
    """Run `client` in the directory `home`; return the status that it sees for each upload, or its error."""
    command, text = [sys.executable, "-c", PROGRAMS[client]], json.dumps([asdict(each) for each in uploads])
    if client == "node":
        command[:2] = ["node", "-e"]
    if client == "java":
        (home / "Upload.java").write_text(JAVA)
        headers = "\n".join(f"{name}: {value}" for name, value in uploads[0].headers.items())
        command = ["java", str(home / "Upload.java"), headers]
        for each in uploads:
            command += [each.url, str(each.size), "chunked" if each.chunked else "whole", each.text]
    done = subprocess.run(  # noqa: S603 - our own programs
        command, cwd=home, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[int | str] = json.loads(done.stdout)
    return found
