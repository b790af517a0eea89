-- What limits have counted so far; only reads, so that asking costs nothing.
--
-- KEYS[i]  counter i, as redis_keys.py describes it
-- ARGV     parts of a window, then for each counter its window in ms
-- returns  for each counter: hits in its window, ms until the oldest of them leaves

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts = tonumber(ARGV[1])
local answer = {}
-- By the bytes of an entry's hits.
local ENTRY = {[1] = '<BB', [2] = '<I2B', [4] = '<I4B', [8] = '<dB'}

-- Hits in the window, and the index of the oldest part there.
local function counted(stored, oldest)
  local width, span, head, used, _, at = struct.unpack('<BBddd', stored)
  if head + span < oldest then return 0 end
  while head < oldest do
    local hits, delta
    hits, delta, at = struct.unpack(ENTRY[width], stored, at)
    used, head = used - hits, head + delta
  end
  return used, head
end

-- The same of what earlier versions stored: msgpack {index, hits, index delta, hits,
-- ...}, oldest first.
local function counted_before(stored, oldest)
  local used, first, index, flat = 0, nil, 0, cmsgpack.unpack(stored)
  for i = 1, #flat, 2 do
    index = index + flat[i]
    if index >= oldest then
      first = first or index
      used = used + flat[i + 1]
    end
  end
  return used, first
end

for i = 1, #KEYS do
  local part = math.ceil(tonumber(ARGV[1 + i]) / parts)
  local oldest = math.floor(now / part) - parts
  local stored, used, first = redis.call('GET', KEYS[i]), 0, nil
  if stored then
    local read = ENTRY[stored:byte()] and counted or counted_before
    used, first = read(stored, oldest)
  end
  answer[#answer + 1] = used
  answer[#answer + 1] = first and (first + parts + 1) * part - now or 0
end
return answer
