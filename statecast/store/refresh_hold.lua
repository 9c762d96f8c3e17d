-- Hold the lock while the venue is asked. The first call's time is when the answer counts as taken.
-- KEYS  status refresh-lock
-- ARGV  token lock_ms
-- ->    {'OK', now_ms, seq, epoch, state} the publisher's, '0', '0' and '' without one
--       {'LOST'} it has run out, or is another's
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {'LOST'} end
local status = redis.call('HMGET', KEYS[1], 'seq', 'epoch', 'state')
local t = redis.call('TIME')
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {'OK', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), status[1] or '0', status[2] or '0',
  status[3] or ''}
