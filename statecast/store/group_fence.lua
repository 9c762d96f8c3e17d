-- The beginning of every script that acts for the holder of a partition; refuses all others, however late they come.
-- KEYS  order-events group …
-- ARGV  partition consumer term redis_group …
-- ->    {'LOST', owner} the partition is not this consumer's under this term, or its lease has run out
local log, hash = KEYS[1], KEYS[2]
local partition, consumer, redis_group = ARGV[1], ARGV[2], ARGV[4]
local up = table.unpack or unpack
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local lease = redis.call('HMGET', hash, partition .. '.owner', partition .. '.term', partition .. '.untilMs')
if lease[1] ~= consumer or lease[2] ~= ARGV[3] or tonumber(lease[3]) <= now then return {'LOST', lease[1] or ''} end
