-- Write a batch of commits, or nothing. A heartbeat is a batch without commits.
-- KEYS  lease status account balances positions orders order-events changes publishers
-- ARGV  token epoch lease_ttl_ms seq_before event_seq_before commits events changes_length verified
--       fresh (the first commit writes everything, or nothing was ever published)
--       the commits, as statecast/store/codec.py packs them; status field value …
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
-- call has written must still be there to be verified.
if event_seq > 0 and redis.call('EXISTS', KEYS[7]) == 0 then return {'DIVERGED', 'the log of order events is gone'} end
local must_exist = ARGV[10] ~= '1' or (done and ARGV[9] == '1')
if must_exist and redis.call('EXISTS', KEYS[3], KEYS[4], KEYS[5], KEYS[6]) < 4 then
  return {'DIVERGED', 'a state hash is gone'}
end

-- In slices: a call takes 8,000 values at the most.
local function sliced(command, key, values)
  for from = 1, #values, 4000 do
    redis.call(command, key, up(values, from, math.min(from + 3999, #values)))
  end
end

if done then commits = 0 end
if commits > 0 then
  for _, commit in ipairs(cmsgpack.unpack(ARGV[11])) do
    for _, hash in ipairs(commit[1]) do
      local key = KEYS[2 + hash[1]]
      hash[3][2] = now
      if hash[2] then redis.call('DEL', key) end
      sliced('HSET', key, hash[3])
      sliced('HDEL', key, hash[4])
    end
    for _, entry in ipairs(commit[2]) do redis.call('XADD', KEYS[7], '*', up(entry)) end
    redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[8], '*', up(commit[3]))
  end
  redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', seq + commits),
    'eventSeq', string.format('%.0f', event_seq + events))
end
if #ARGV > 11 then
  redis.call('HSET', KEYS[2], 'heartbeatAtMs', now, up(ARGV, 12))
  redis.call('ZADD', KEYS[9], now, token)
end
if ARGV[9] == '1' then
  redis.call('HSET', KEYS[2], 'verifiedAtMs', now)
  for i = 3, 6 do redis.call('HSET', KEYS[i], '_verifiedAtMs', now) end
end
redis.call('PEXPIRE', KEYS[1], ttl)
return {'OK', now}
