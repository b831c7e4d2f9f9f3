"""Stand-in provider for users' own tests.

```python
sandbox = Sandbox(Switches(lose_callbacks=0.3), now=lambda: datetime.now(UTC), random=Random(7))
async with sandbox.running():
    client = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), base_url="http://sandbox")
    ...  # submit and poll as at the real provider: /model/v1/generation, or /ent/v2 for Vidu
    await sandbox.idle()
    assert len(sandbox.bills) == 1
```

`sandbox.turn({"html_500_poll": "first 2"})` changes a switch while the sandbox runs; `sandbox.ledger()` returns all
counters.
"""

from service.sandbox.billing import Bill
from service.sandbox.faulty_responses import ConnectionCut
from service.sandbox.sandbox import MediaExtraMissing, Sandbox
from service.sandbox.switch_types import First, SwitchError
from service.sandbox.switches import Switches

__all__ = ["Bill", "ConnectionCut", "First", "MediaExtraMissing", "Sandbox", "SwitchError", "Switches"]
