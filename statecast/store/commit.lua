-- Write a batch of commits, or nothing. A heartbeat is a batch without commits.
-- KEYS  lease status account balances positions orders order-events changes publishers
-- ARGV  token epoch lease_ttl_ms seq_before event_seq_before commits events changes_length verified
--       fresh (the first commit writes everything, or nothing was ever published) #status field value … then the commits as statecast/store/codec.py lays them out
-- ->    {'OK', now_ms} written, now or by an earlier call whose reply was lost
--       {'LEASE', holder} another publisher may write, or the lease has run out
--       {'DIVERGED', what} Redis does not hold what this publisher wrote last
local token, epoch, ttl = ARGV[1], ARGV[2], ARGV[3]
local seq, event_seq = tonumber(ARGV[4]), tonumber(ARGV[5])
local commits, events = tonumber(ARGV[6]), tonumber(ARGV[7])
local up = table.unpack or unpack

local holder = redis.call('GET', KEYS[1])
if holder ~= token then return {'LEASE', holder or ''} end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'seq', 'eventSeq')
if not known[1] then return {'DIVERGED', 'status is gone'} end
if known[1] ~= epoch then return {'LEASE', 'epoch ' .. known[1]} end

local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local known_seq, known_event_seq = tonumber(known[2]), tonumber(known[3])
local done = commits > 0 and known_seq == seq + commits and known_event_seq == event_seq + events
if not done and (known_seq ~= seq or known_event_seq ~= event_seq) then
  return {'DIVERGED', 'seq ' .. tostring(known[2]) .. ' eventSeq ' .. tostring(known[3])}
end

-- A hash that is missing is not "flat", and a part of one is worse: write everything again, or nothing. What an earlier
-- call has written must still be there to be vouched for.
local must_exist = ARGV[10] ~= '1' or (done and ARGV[9] == '1')
if must_exist and redis.call('EXISTS', KEYS[3], KEYS[4], KEYS[5], KEYS[6]) < 4 then
  return {'DIVERGED', 'a state hash is gone'}
end

local at = 11
local status_length = tonumber(ARGV[at])
local status_from = at + 1
at = status_from + status_length

if done then commits = 0 end
for _ = 1, commits do
  local hashes = tonumber(ARGV[at]); at = at + 1
  for _ = 1, hashes do
    local key, replaces, length = KEYS[2 + tonumber(ARGV[at])], ARGV[at + 1], tonumber(ARGV[at + 2])
    at = at + 3
    if replaces == '1' then redis.call('DEL', key) end
    redis.call('HSET', key, '_storedAtMs', now)
    -- In slices: a call takes 8,000 values at the most.
    for from = at, at + length - 1, 4000 do
      redis.call('HSET', key, up(ARGV, from, math.min(from + 3999, at + length - 1)))
    end
    at = at + length
    length = tonumber(ARGV[at]); at = at + 1
    for from = at, at + length - 1, 4000 do
      redis.call('HDEL', key, up(ARGV, from, math.min(from + 3999, at + length - 1)))
    end
    at = at + length
  end
  local entries = tonumber(ARGV[at]); at = at + 1
  for _ = 1, entries do
    local length = tonumber(ARGV[at])
    redis.call('XADD', KEYS[7], '*', up(ARGV, at + 1, at + length))
    at = at + 1 + length
  end
  local length = tonumber(ARGV[at])
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[8], '*', up(ARGV, at + 1, at + length))
  at = at + 1 + length
end
if commits > 0 then
  redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', seq + commits),
    'eventSeq', string.format('%.0f', event_seq + events))
end
if status_length > 0 then
  redis.call('HSET', KEYS[2], 'heartbeatAtMs', now, up(ARGV, status_from, status_from + status_length - 1))
  redis.call('ZADD', KEYS[9], now, token)
end
if ARGV[9] == '1' then
  redis.call('HSET', KEYS[2], 'verifiedAtMs', now)
  for i = 3, 6 do redis.call('HSET', KEYS[i], '_verifiedAtMs', now) end
end
redis.call('PEXPIRE', KEYS[1], ttl)
return {'OK', now}
