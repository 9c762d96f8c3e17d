// Process order events in Node with a consumer group: at least once, in order, none lost.
//
//     STATECAST_REDIS_URL=redis://127.0.0.1:6379/0 node order-events.mjs binance:main mybot [COUNT]
//
// Prints one JSON object per event, then acknowledges it. The program ends after COUNT events. Run only one per group:
// two would handle events of one order at the same time.
import Redis from "ioredis";

const [accountId = "binance:main", group = "mybot", count = "Infinity"] = process.argv.slice(2);
const stream = `statecast:{${accountId}}:order-events`;
const consumer = "worker";

// Do not repeat a call whose reply was lost: its entries are pending, and are read from there.
const redis = new Redis(process.env.STATECAST_REDIS_URL ?? "redis://127.0.0.1:6379/0", {
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
});

// "0" is the beginning of the log; "$" would be new events only. An existing group stays where it is.
const createGroup = () =>
  redis.xgroup("CREATE", stream, group, "0", "MKSTREAM").catch((error) => {
    if (!error.message.startsWith("BUSYGROUP")) throw error;
  });

let lastSeq = 0;
let left = Number(count);

function handle(fields) {
  const event = {};
  for (let at = 0; at < fields.length; at += 2) event[fields[at]] = fields[at + 1];
  const seq = Number(event.eventSeq);
  if (lastSeq && seq > lastSeq + 1) console.error(`GAP: events ${lastSeq + 1} to ${seq - 1} are not in the log`);
  lastSeq = Math.max(lastSeq, seq);
  console.log(JSON.stringify(event)); // a real handler stores eventId, to recognise a second delivery
}

// Entries that were trimmed while this did not run are a gap, too: compare with the last entry that was delivered.
const flat = (pairs) => Object.fromEntries(pairs.flatMap((_, at) => (at % 2 ? [] : [[pairs[at], pairs[at + 1]]])));

await createGroup();
const given = (await redis.xinfo("GROUPS", stream)).map(flat).find((each) => each.name === group)["last-delivered-id"];
const [lastGiven] = await redis.xrange(stream, given, given);
if (lastGiven) lastSeq = Number(flat(lastGiven[1]).eventSeq);
else if (given !== "0-0") console.error(`GAP: ${given}, the last delivered entry, was trimmed; perhaps others after it`);
let from = "0"; // first the pending entries, then ">": new ones
while (left > 0) {
  const block = from === ">" ? ["BLOCK", 2000] : [];
  const reply = await redis.xreadgroup(
    "GROUP", group, consumer, "COUNT", Math.min(64, left), ...block, "STREAMS", stream, from,
  );
  const entries = reply?.[0]?.[1] ?? [];
  for (const [id, fields] of entries) {
    if (fields) handle(fields);
    else console.error(`GAP: ${id} was trimmed before it was acknowledged`);
    await redis.xack(stream, group, id);
    left -= 1;
  }
  if (from !== ">") from = entries.length ? entries.at(-1)[0] : ">";
}
redis.disconnect();
