// Read an account in Node: everything at one commit, with its age.
//
//     npm install
//     STATECAST_REDIS_URL=redis://127.0.0.1:6379/0 node account.mjs binance:main
//
// Prints one JSON object. Exit code 3 if you must not act on the state. Amounts stay text, because a float would round.
import Redis from "ioredis";

const MAX_AGE_MS = 10_000;

export async function readAccount(redis, accountId, maxAgeMs = MAX_AGE_MS) {
  const key = (name) => `statecast:{${accountId}}:${name}`;
  const replies = await redis
    .multi() // data and clock at the same moment
    .time()
    .hgetall(key("status"))
    .hgetall(key("account"))
    .hgetall(key("balances"))
    .hgetall(key("positions"))
    .hgetall(key("orders"))
    .exec();
  const [[seconds, microseconds], status, ...hashes] = replies.map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
  if (Object.keys(status).length === 0) throw new Error(`${accountId} was never published: unknown, not flat`);
  if (status.contract !== "1") throw new Error(`contract ${status.contract}, this program reads 1`);
  // A missing hash means unknown; an empty account has hashes with _count 0.
  if (hashes.some((hash) => hash._complete !== "1")) throw new Error(`${accountId} is not complete: ${status.state}`);
  const ageMs = Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000) - Number(status.verifiedAtMs);
  const [account, balances, positions, orders] = hashes;
  return {
    fresh: status.verifiedAtMs !== undefined && ageMs >= 0 && ageMs <= maxAgeMs,
    ageMs,
    seq: Number(status.seq),
    account: Object.fromEntries(Object.entries(account).filter(([field]) => !field.startsWith("_"))),
    balances: entities(balances),
    positions: entities(positions),
    orders: entities(orders),
  };
}

// "BTCUSDT:BOTH.positionAmt" is the attribute positionAmt of BTCUSDT:BOTH: the last dot separates the two.
function entities(hash) {
  const rows = {};
  for (const [field, value] of Object.entries(hash)) {
    const dot = field.lastIndexOf(".");
    if (field.startsWith("_") || dot < 0) continue;
    (rows[field.slice(0, dot)] ??= {})[field.slice(dot + 1)] = value;
  }
  return rows;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const redis = new Redis(process.env.STATECAST_REDIS_URL ?? "redis://127.0.0.1:6379/0", { maxRetriesPerRequest: 1 });
  try {
    const account = await readAccount(redis, process.argv[2] ?? "binance:main");
    console.log(JSON.stringify(account));
    process.exitCode = account.fresh ? 0 : 3;
  } catch (error) {
    console.error(error.message);
    process.exitCode = 3;
  } finally {
    redis.disconnect();
  }
}
