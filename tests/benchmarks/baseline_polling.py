"""The baseline of polling: httpx GETs in a loop.

`python -m tests.benchmarks.baseline_polling URL AT_ONCE SECONDS` prints the rate.
"""

import asyncio
import sys
import time

import httpx
import uvloop


async def run(url: str, at_once: int, seconds: float) -> float:
    """Return GETs per second, with `at_once` simultaneous requests."""
    until = time.perf_counter() + seconds

    async def loop(http: httpx.AsyncClient) -> int:
        count = 0
        while time.perf_counter() < until:
            (await http.get(f"{url}/model/v1/generation/task/d758n65e878c73cmdg20")).raise_for_status().json()
            count += 1
        return count

    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "Bearer key"}) as http:
        return sum(await asyncio.gather(*(loop(http) for _ in range(at_once)))) / seconds


if __name__ == "__main__":
    sys.stdout.write(f"{uvloop.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))}\n")
