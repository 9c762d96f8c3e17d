-- Take the account's lease and open an epoch, or say who holds it.
-- KEYS  lease status account balances positions orders order-events changes publishers
-- ARGV  token lease_ttl_ms least_seq least_event_seq contract registered_ms state reason last_epoch patient margin
-- ->    {'OK', epoch, seq, event_seq, now_ms, verified_at_ms}
--       {'HELD', holder, ms left}   holder is '' where Redis holds nothing of the account and the caller is patient
--       {'CONTRACT', version}   {'TYPE', key, type}
local token = ARGV[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(number) return string.format('%.0f', number) end

redis.call('ZREMRANGEBYSCORE', KEYS[9], '-inf', text(now - tonumber(ARGV[6])))
redis.call('ZADD', KEYS[9], text(now), token)
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= token then return {'HELD', holder, redis.call('PTTL', KEYS[1])} end
if ARGV[10] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then return {'HELD', '', 0} end

-- A script does not roll back: what could fail in the middle of a commit is looked at here.
local types = {'hash', 'hash', 'hash', 'hash', 'hash', 'stream', 'stream'}
for i = 2, 8 do
  local type = redis.call('TYPE', KEYS[i])['ok']
  if type ~= 'none' and type ~= types[i - 1] then return {'TYPE', KEYS[i], type} end
end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'seq', 'eventSeq', 'contract', 'verifiedAtMs')
if known[4] and known[4] ~= ARGV[5] then return {'CONTRACT', known[4]} end

-- By the clock as well as by counting: a number lost in a fail-over is not handed out twice.
local epoch = math.max((tonumber(known[1]) or 0) + 1, tonumber(ARGV[9]) + 1, now)
local seq, least_seq = tonumber(known[2]) or 0, tonumber(ARGV[3])
if seq < least_seq then seq = least_seq + tonumber(ARGV[11]) end
-- The status may be lost while the log is not.
local event_seq = math.max(tonumber(known[3]) or 0, tonumber(ARGV[4]))
local last = redis.call('XREVRANGE', KEYS[7], '+', '-', 'COUNT', 1)[1]
if last then
  for i = 1, #last[2], 2 do
    if last[2][i] == 'eventSeq' then event_seq = math.max(event_seq, tonumber(last[2][i + 1]) or 0) end
  end
end
-- A log that is gone is noticed by its absence; this one is known to have been lost, and starts again.
if event_seq > 0 and not last then
  redis.call('XADD', KEYS[7], '*', 'eventSeq', '')
  redis.call('XTRIM', KEYS[7], 'MAXLEN', 0)
end
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'epoch', text(epoch), 'seq', text(seq), 'eventSeq', text(event_seq), 'publisherId', token,
  'state', ARGV[7], 'reason', ARGV[8], 'heartbeatAtMs', text(now), 'contract', ARGV[5])
return {'OK', text(epoch), text(seq), text(event_seq), text(now), known[5] or '0'}
