"""Examples of every command, which its `--help` ends with. A test parses each of them."""

from collections.abc import Mapping, Sequence

import click

EXAMPLES: Mapping[str, Sequence[str]] = {
    "demo": (
        "boomerang demo",
        "boomerang demo --image cat.png --prompt 'The cat surfs at dawn'",
        "boomerang demo --stay",
        "boomerang demo --json",
    ),
    "serve": ("boomerang serve", "boomerang serve --host 0.0.0.0 --port 8080", "boomerang serve --role web"),
    "worker": ("boomerang worker", "boomerang worker --port 8081"),
    "migrate": ("boomerang migrate", "boomerang migrate --json"),
    "sandbox": ("boomerang sandbox", "boomerang sandbox --port 8099 --run-time 2s..5s --seed 7"),
    "submit": (
        "boomerang submit --prompt 'The cat surfs at dawn' --image cat.png --param duration=8 --wait",
        "boomerang submit --prompt 'A walk' --image https://example.org/dog.png --metadata chat=42 --json",
        "boomerang submit --prompt Walk --image dog.png --notify https://example.org/hook --idempotency-key order-1",
    ),
    "status": ("boomerang status ID", "boomerang status ID --json"),
    "watch": ("boomerang watch ID", "boomerang watch", "boomerang watch --json"),
    "tasks": ("boomerang tasks --status in_doubt", "boomerang tasks --limit 100 --json"),
    "cancel": ("boomerang cancel ID",),
    "resubmit": ("boomerang resubmit ID",),
    "events": ("boomerang events ID", "boomerang events ID --json"),
    "dead": ("boomerang dead --handler webhook", "boomerang dead --failing"),
    "replay": (
        "boomerang replay ID",
        "boomerang replay --handler webhook --since 2h --dry-run",
        "boomerang replay --handler webhook --since 2026-05-06T10:00:00Z --status dead --status pending --yes",
    ),
    "endpoints": ("boomerang endpoints", "boomerang endpoints add https://example.org/hook --events task.completed"),
    "endpoints list": ("boomerang endpoints list --json",),
    "endpoints add": (
        "boomerang endpoints add https://example.org/hook --events task.completed,task.failed",
        "boomerang endpoints add https://example.org/hook --header 'X-Team: video' --description 'the shop'",
    ),
    "endpoints change": (
        "boomerang endpoints change ID --rate 10/s",
        "boomerang endpoints change ID --events task.completed,task.failed --rate none",
    ),
    "endpoints rotate": ("boomerang endpoints rotate ID --overlap 24h",),
    "endpoints pause": ("boomerang endpoints pause ID",),
    "endpoints resume": ("boomerang endpoints resume ID",),
    "endpoints remove": ("boomerang endpoints remove ID", "boomerang endpoints remove ID --json"),
    "endpoints test": ("boomerang endpoints test ID",),
    "endpoints replay": ("boomerang endpoints replay ID --since 2h --dry-run",),
    "circuits": ("boomerang circuits", "boomerang circuits --json"),
    "circuits list": ("boomerang circuits list --json",),
    "circuits close": ("boomerang circuits close 5f0c7d9a1b3e8f2046ad5c7b9e1d3f80",),
    "usage": ("boomerang usage", "boomerang usage --from 2026-05-01 --to 2026-05-31 --csv"),
    "reconcile": ("boomerang reconcile --once", "boomerang reconcile --once --json"),
    "handlers": ("boomerang handlers", "boomerang handlers --json"),
    "handlers new": ("boomerang handlers new publish-video", "boomerang handlers new publish-video --json"),
    "handlers pause": ("boomerang handlers pause webhook",),
    "handlers resume": ("boomerang handlers resume webhook", "boomerang handlers resume webhook --json"),
    "handlers test": (
        "boomerang handlers test log",
        'boomerang handlers test webhook --target \'{"url": "https://example.org/hook"}\' --event task.failed',
    ),
    "login": ("boomerang login",),
    "doctor": ("boomerang doctor", "boomerang doctor --check database --json", "boomerang doctor --host 0.0.0.0"),
    "completion": (
        "boomerang completion bash",
        'eval "$(boomerang completion bash)"   # in ~/.bashrc; zsh in ~/.zshrc',
        "boomerang completion fish | source    # in ~/.config/fish/config.fish",
    ),
    "secret": (
        "boomerang secret",
        "boomerang secret --webhook",
        "boomerang secret --client shop",
        "boomerang secret --json",
    ),
    "setup": (
        "boomerang setup telegram --dry-run",
        "boomerang setup telegram",
        "boomerang setup discord --dry-run --json",
    ),
}
"""By the name of the command, with its group."""


def with_examples(command: click.Command, name: str) -> click.Command:
    """Return the command; its help, and that of the commands in it, ends with the examples of EXAMPLES."""
    lines = EXAMPLES.get(name, ())
    if lines:
        command.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
    if isinstance(command, click.Group):
        for inner, each in command.commands.items():
            with_examples(each, f"{name} {inner}")
    return command
