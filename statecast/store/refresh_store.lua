-- Store a REST answer for all readers, unless a younger one is there; free the lock, and wake who waits.
-- KEYS  refresh refresh-lock refresh-news
-- ARGV  token credentials results_length spent spent_time_ms
--       taken_at_ms seq epoch state contract account balances positions orders
-- ->    now_ms
local token, taken = ARGV[1], tonumber(ARGV[6])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- A script does not roll back: a key of another type is found before the first write.
local known = tonumber(redis.call('HGET', KEYS[1], 'takenAtMs'))
local holder = redis.call('GET', KEYS[2])
redis.call('XLEN', KEYS[3])

if not known or known > now or known <= taken then
  redis.call('HSET', KEYS[1], 'takenAtMs', ARGV[6], 'storedAtMs', string.format('%.0f', now), 'by', token,
    'seq', ARGV[7], 'epoch', ARGV[8], 'state', ARGV[9], 'contract', ARGV[10],
    'account', ARGV[11], 'balances', ARGV[12], 'positions', ARGV[13], 'orders', ARGV[14])
end
redis.call('HSET', KEYS[1], 'spent', ARGV[4], 'spentTimeMs', ARGV[5])
redis.call('HDEL', KEYS[1], 'failedAtMs', 'retryAtMs', 'reason', 'failures', 'refused.' .. ARGV[2])
if holder == token then redis.call('DEL', KEYS[2]) end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'ended', 'stored', 'by', token, 'takenAtMs', ARGV[6])
return string.format('%.0f', now)
