from __future__ import annotations

from support.binance_account import Account


def test_configuration_changes() -> None:
    account = Account()
    stream = account.follow()
    account.post("/fapi/v1/leverage", symbol="ETHUSDT", leverage=50)
    account.post("/fapi/v1/multiAssetsMargin", multiAssetsMargin="true")
    leverage, mode = account.frames(stream)
    assert leverage["ac"] == {"s": "ETHUSDT", "l": 50}
    assert mode["ai"] == {"j": True}
    [config] = account.get("/fapi/v1/symbolConfig", symbol="ETHUSDT")
    assert (config["leverage"], config["marginType"]) == (50, "CROSSED")
