-- A sliding window of two slots, the older one counted by the share that is still in
-- the window. KEYS[1]: the caller; ARGV: limit, window in ms.
-- Gives whether the request passes, and how many more would.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local slot = math.floor(now / window)
local kept = redis.call('HMGET', KEYS[1], 'slot', 'count', 'before')
local last, count, before = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])
if last ~= slot then
  before = last == slot - 1 and count or 0
  count = 0
end
local used = count + math.ceil(before * (1 - now % window / window))
if used >= limit then return {0, 0} end
redis.call('HSET', KEYS[1], 'slot', slot, 'count', count + 1, 'before', before)
redis.call('PEXPIRE', KEYS[1], 2 * window)
return {1, limit - used - 1}
