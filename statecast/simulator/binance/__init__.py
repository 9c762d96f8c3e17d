"""Binance USDⓈ-M futures as a dialect of the simulated exchange: REST routes, frames, streams, errors, signatures."""
