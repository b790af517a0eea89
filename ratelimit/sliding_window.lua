-- Several sliding windows, checked together and charged together or not at all.
--
-- KEYS[i]  counter i: msgpack {index, hits, index delta, hits, ...}, oldest first
-- ARGV     sub-windows per window, 1 to write or 0 to look, then for each counter:
--          limit, window in ms, hits,
--          when it adds (0 never, 1 with room, 2 always), 1 if a lack of room denies
-- returns  {admitted 0|1, then for each counter: used, reset ms, retry ms}
--
-- The same arithmetic as window.py, whose docstring has the theory; the clock is the
-- server's own, so that replicas with different clocks agree.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts, writes = tonumber(ARGV[1]), ARGV[2] == '1'

local function load(key, oldest)
  local indexes, hits, used = {}, {}, 0
  local packed = redis.call('GET', key)
  if packed then
    local flat = cmsgpack.unpack(packed)
    local index = 0
    for i = 1, #flat, 2 do
      index = index + flat[i]
      if index >= oldest then
        indexes[#indexes + 1] = index
        hits[#hits + 1] = flat[i + 1]
        used = used + flat[i + 1]
      end
    end
  end
  return indexes, hits, used
end

local function retry_after(counter)
  local over = counter.used + counter.cost - counter.limit
  if over <= 0 then return 0 end
  for i = 1, #counter.indexes do
    over = over - counter.hits[i]
    if over <= 0 then
      return (counter.indexes[i] + parts + 1) * counter.part - now
    end
  end
  return counter.window
end

local counters, admitted = {}, 1
for i = 1, #KEYS do
  local base = 2 + (i - 1) * 5
  local window = tonumber(ARGV[base + 2])
  local counter = {
    limit = tonumber(ARGV[base + 1]),
    window = window,
    cost = tonumber(ARGV[base + 3]),
    adds = ARGV[base + 4],
    part = math.ceil(window / parts),
  }
  counter.index = math.floor(now / counter.part)
  counter.indexes, counter.hits, counter.used = load(KEYS[i], counter.index - parts)
  counter.retry = retry_after(counter)
  if counter.retry > 0 and ARGV[base + 5] == '1' then admitted = 0 end
  counters[i] = counter
end

local function charge(key, counter)
  local indexes, hits = counter.indexes, counter.hits
  local last = #indexes
  if last > 0 and indexes[last] >= counter.index then
    hits[last] = hits[last] + counter.cost
  else
    indexes[last + 1], hits[last + 1] = counter.index, counter.cost
  end
  counter.used = counter.used + counter.cost
  local flat, previous = {}, 0
  for i = 1, #indexes do
    flat[#flat + 1] = indexes[i] - previous
    flat[#flat + 1] = hits[i]
    previous = indexes[i]
  end
  redis.call('SET', key, cmsgpack.pack(flat), 'PX', (parts + 1) * counter.part)
end

local function is_due(counter)
  if not writes or admitted == 0 or counter.cost == 0 then return false end
  return counter.adds == '2' or (counter.adds == '1' and counter.retry == 0)
end

local answer = {admitted}
for i = 1, #KEYS do
  local counter = counters[i]
  if is_due(counter) then charge(KEYS[i], counter) end
  local reset = 0
  if #counter.indexes > 0 then
    reset = (counter.indexes[1] + parts + 1) * counter.part - now
  end
  answer[#answer + 1] = counter.used
  answer[#answer + 1] = reset
  answer[#answer + 1] = counter.retry
end
return answer
