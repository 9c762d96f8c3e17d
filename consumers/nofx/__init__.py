"""The user data stream of the NOFX bot, under the names and shapes that its users know: change the import line."""

from consumers.nofx.auto_trader import AutoTrader, AutoTraderConfig
from consumers.nofx.binance_futures import BinanceFuturesTrader
from consumers.nofx.user_data_stream import UserDataStream

__all__ = ["AutoTrader", "AutoTraderConfig", "BinanceFuturesTrader", "UserDataStream"]
