// Order events through a consumer group, by another language: each once or more, none lost, in order.
//
//     STATECAST_REDIS_URL=redis://127.0.0.1:6379/0 node order-events.mjs binance:main mybot [COUNT]
//
// Prints one JSON object per event and acknowledges it afterwards. COUNT ends the program after so many. Run one of it
// per group: two that read at the same time would handle events of one order beside each other.
import Redis from "ioredis";

const [accountId = "binance:main", group = "mybot", count = "Infinity"] = process.argv.slice(2);
const stream = `statecast:{${accountId}}:order-events`;
const consumer = "worker";

// A lost reply must not be repeated: what it held is pending, and is read from there.
const redis = new Redis(process.env.STATECAST_REDIS_URL ?? "redis://127.0.0.1:6379/0", {
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
});

// "0" is the beginning of the log; "$" would be from now on. An existing group stays where it is.
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
  console.log(JSON.stringify(event)); // a real handler keeps eventId, to know what it has done already
}

// What was trimmed while nobody ran this is a gap, too: the numbers go on from the last entry that the group was given.
const flat = (pairs) => Object.fromEntries(pairs.flatMap((_, at) => (at % 2 ? [] : [[pairs[at], pairs[at + 1]]])));

await createGroup();
const given = (await redis.xinfo("GROUPS", stream)).map(flat).find((each) => each.name === group)["last-delivered-id"];
const [lastGiven] = await redis.xrange(stream, given, given);
if (lastGiven) lastSeq = Number(flat(lastGiven[1]).eventSeq);
else if (given !== "0-0") console.error(`GAP: ${given}, given to the group last, was trimmed; perhaps others after it`);
let from = "0"; // first what was delivered and not acknowledged, then ">": what is new
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
