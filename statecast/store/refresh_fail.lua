-- End a turn without an answer: say why and until when nobody is to ask the venue; free the lock, wake who waits.
-- A turn that another has taken over meanwhile says nothing: its lock is another's, or an answer was stored that was
-- asked for after the turn began. What it knows is old, and must not make all readers pause.
-- KEYS  refresh refresh-lock refresh-news
-- ARGV  token credentials results_length spent spent_time_ms
--       ended: failed (for all), refused (these credentials alone), or given-up (no word about the venue)
--       reason pause_ms (doubled with each failure in a row) longest_pause_ms
--       turn_at_ms (when the turn was given)
-- ->    retry_at_ms, '' where others may ask at once
local token, ended = ARGV[1], ARGV[6]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(number) return string.format('%.0f', number) end
-- A script does not roll back: a key of another type is found before the first write.
local failures = (tonumber(redis.call('HGET', KEYS[1], 'failures')) or 0) + 1
local holder = redis.call('GET', KEYS[2])
local taken = tonumber(redis.call('HGET', KEYS[1], 'takenAtMs'))
redis.call('XLEN', KEYS[3])
if holder and holder ~= token then return '' end
if taken and taken <= now and taken > tonumber(ARGV[10]) then ended = 'given-up' end

local retry = ''
if ended == 'failed' then
  retry = text(now + math.min(tonumber(ARGV[8]) * 2 ^ (failures - 1), tonumber(ARGV[9])))
  redis.call('HSET', KEYS[1], 'failedAtMs', text(now), 'retryAtMs', retry, 'reason', ARGV[7],
    'failures', text(failures))
elseif ended == 'refused' then
  redis.call('HSET', KEYS[1], 'refused.' .. ARGV[2], text(now) .. ' ' .. ARGV[7])
end
if ended ~= 'given-up' then redis.call('HSET', KEYS[1], 'spent', ARGV[4], 'spentTimeMs', ARGV[5]) end
if holder == token then redis.call('DEL', KEYS[2]) end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'ended', ended, 'by', token, 'takenAtMs', '')
return retry
