"""Stand in for the upstream: the menu for users' own tests.

```python
sandbox = Sandbox(Switches(lose_callbacks=0.3), now=lambda: datetime.now(UTC), random=Random(7))
async with sandbox.running():
    client = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), base_url="http://sandbox")
```
"""

from service.sandbox.answers import ConnectionCut
from service.sandbox.ledger import Bill
from service.sandbox.sandbox import MediaExtraMissing, Sandbox
from service.sandbox.switches import Switches
from service.sandbox.values import First, SwitchError

__all__ = ["Bill", "ConnectionCut", "First", "MediaExtraMissing", "Sandbox", "SwitchError", "Switches"]
