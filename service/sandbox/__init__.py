"""Stand in for the upstream: the menu for users' own tests.

```python
sandbox = Sandbox(Switches(lose_callbacks=0.3), now=lambda: datetime.now(UTC), random=Random(7))
async with sandbox.running():
    client = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), base_url="http://sandbox")
    ...  # submit and poll as at the real upstream: /model/v1/generation, or /ent/v2 for Vidu
    await sandbox.idle()
    assert len(sandbox.bills) == 1
```

`sandbox.turn({"html_500_poll": "first 2"})` changes a switch while it runs; `sandbox.ledger()` tells what was counted.
"""

from service.sandbox.answers import ConnectionCut
from service.sandbox.ledger import Bill
from service.sandbox.sandbox import MediaExtraMissing, Sandbox
from service.sandbox.switches import Switches
from service.sandbox.values import First, SwitchError

__all__ = ["Bill", "ConnectionCut", "First", "MediaExtraMissing", "Sandbox", "SwitchError", "Switches"]
