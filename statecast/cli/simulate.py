"""`statecast simulate`: a simulated exchange on a local port."""

from __future__ import annotations

import argparse
import math
from decimal import Decimal, InvalidOperation

_EPILOG = """\
examples:
  statecast simulate                               an exchange at http://127.0.0.1:8900, one-way mode, 10000 USDT
  statecast simulate --trade 5                     the same, with a random trader (five steps per second)
  statecast simulate --hedge --balance USDT=500 --balance USDC=2000
  statecast simulate --seed 7 --port 0             the same prices in every run, on a free port

To use it, give a publisher or any Binance client its base URLs and the printed key:
  STATECAST_REST_URL=http://127.0.0.1:8900 STATECAST_WS_URL=ws://127.0.0.1:8900

Control it over HTTP, for example:
  curl http://127.0.0.1:8900/simulate/ledger
  curl -d '{"symbol":"BTCUSDT","price":"90000"}' http://127.0.0.1:8900/simulate/mark
  curl -d '{"name":"cut_sockets"}' http://127.0.0.1:8900/simulate/fault

Conditions that few bots are ready for:
  fault  {"name":"lag_rest","ms":800,"paths":["/fapi/v1/openOrders"]}   REST is behind, each path by its own time
  fault  {"name":"hide_young_orders","ms":2000}                         -2013 for orders that were just placed
  fault  {"name":"other_programs","weight":1600}                        others on this address use request weight
  fault  {"name":"shift_clock","by_ms":-2000}                           the exchange's clock is set back
  fault  {"name":"shift_marks","by_ms":3600000}                         mark prices stamped an hour ahead
  expire {"order_id":8886774001}                                        an order ends with an unknown status
  delist {"symbol":"XRPUSDT","reported":false}                          a symbol and its orders are gone
  accrue {"asset":"BFUSD","amount":"0.01"}                              a wallet grows without an event
  forget {"asset":"BFUSD"}                                              an asset is withdrawn, and not listed any more
  burst  {"count":30000,"kind":"amendments"}                            a flood of order events
All faults:       python -m pydoc statecast.simulator.faults
All other calls:  python -m pydoc statecast.simulator.control
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the program's sub-commands."""
    parser = commands.add_parser(
        "simulate",
        help="run a simulated exchange to publish from",
        description="Run a simulated Binance USDⓈ-M futures exchange with moving prices: REST and websocket, "
        "like the real one. Nothing leaves this machine, and the keys have no value.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8900, help="port to listen on, 0 for a free one (default: 8900)")
    parser.add_argument(
        "--seed", type=int, default=1, help="prices and trades are the same for the same seed (default: 1)"
    )
    parser.add_argument(
        "--ids-per-symbol",
        action="store_true",
        help="number orders and trades for each symbol by itself: two symbols have the same ids",
    )
    parser.add_argument("--hedge", action="store_true", help="hedge mode: a long and a short position per symbol")
    parser.add_argument(
        "--trade", type=_rate, default=0.0, metavar="RATE", help="steps of a random trader per second (default: 0, off)"
    )
    parser.add_argument("--api-key", default="demo-key", help="API key to accept (default: %(default)s)")
    parser.add_argument("--api-secret", default="demo-secret", help="its secret (default: %(default)s)")
    parser.add_argument(
        "--balance",
        type=_balance,
        action="append",
        metavar="ASSET=AMOUNT",
        help="balance at the start, can be repeated (default: USDT=10000)",
    )
    parser.add_argument(
        "--mark-interval",
        type=_rate,
        default=1.0,
        metavar="SECONDS",
        help="pause between two mark prices, 0 for none (default: 1)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM. Exit code 1 when the address cannot be listened on."""
    import asyncio

    return asyncio.run(_serve(args))


async def _serve(args: argparse.Namespace) -> int:
    import asyncio
    import signal
    import sys
    from random import Random

    from statecast.clock import SystemClock
    from statecast.secret import Secret
    from statecast.simulator.binance.exchange import Exchange
    from statecast.simulator.binance.signing import ApiKey
    from statecast.simulator.ledger import Ledger
    from statecast.simulator.server import SimulatorServer

    clock = SystemClock()
    balances = dict(args.balance or [("USDT", Decimal(10_000))])
    ledger = Ledger(balances, now_ms=clock.now_ms(), hedge=args.hedge, ids_per_symbol=args.ids_per_symbol)
    exchange = Exchange(ledger, [ApiKey(args.api_key, Secret(args.api_secret))], Random(args.seed))
    server = SimulatorServer(
        exchange, clock, args.host, args.port, mark_interval_s=args.mark_interval, trade_rate=args.trade
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        await server.__aenter__()
    except OSError as error:
        reason = error.strerror or str(error)
        print(f"simulate: cannot listen on {args.host}:{args.port}: {reason}; try --port 0", file=sys.stderr)
        return 1
    try:
        print(f"REST       {server.rest_url}")
        print(f"websocket  {server.ws_url}")
        print(f"key        {args.api_key}")
        print(f"mode       {'hedge' if args.hedge else 'one-way'}, seed {args.seed}")
        print("ready", flush=True)
        waits = [asyncio.create_task(stopped.wait()), asyncio.create_task(server.wait_failed())]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()
    finally:
        await server.__aexit__()
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number from 0 to 65535 is needed")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10000")
    return value


def _balance(text: str) -> tuple[str, Decimal]:
    asset, _, amount_text = text.partition("=")
    try:
        amount = Decimal(amount_text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not asset.isalnum() or not asset.isupper() or not amount.is_finite() or not 0 <= amount <= Decimal("1e12"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a balance such as USDT=10000")
    return asset, amount
