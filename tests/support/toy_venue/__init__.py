"""A venue that is unlike Binance wherever the port lets venues differ, to prove that a further venue is an adapter and
a line of the registry.

stream      one socket: a login and a subscription, both acknowledged; then pages of the positions; pings are text
frames      name their connection and count, so that no two connections send the same bytes
account     by REST, in pages of two rows
contracts   are counted: BTC-L is linear (0.01 BTC), BTC-I inverse (100 USD, settled in BTC)
histories   of the whole account; the oldest rows are dropped, however young they are
limits      a bucket for each endpoint
keys        have three parts

`exchange.py` is the exchange and its ledger on a port of this machine; the other modules are its adapter, and share no
code with it.
"""
