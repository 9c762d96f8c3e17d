-- Leave in an orderly way: say so, free the lease, unregister. Nothing is said where another publisher holds the lease.
-- KEYS  lease status publishers
-- ARGV  token epoch state reason registered_ms
-- ->    the number of other publishers still registered
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[1]) == ARGV[1] then
  if redis.call('HGET', KEYS[2], 'epoch') == ARGV[2] then
    redis.call('HSET', KEYS[2], 'state', ARGV[3], 'reason', ARGV[4])
  end
  redis.call('DEL', KEYS[1])
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now - tonumber(ARGV[5])))
return redis.call('ZCARD', KEYS[3])
