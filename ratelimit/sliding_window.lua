-- Sliding windows of many callers: a caller's are checked together, and charged
-- together or not at all, whatever becomes of the others.
--
-- KEYS     counters, one caller's after the other's:
--          msgpack {index, hits, index delta, hits, ...}, oldest first
-- ARGV[1]  sub-windows per window
-- ARGV[2]  for each key two bytes, high first: which kind of charge, from 1, and
--          0x8000 where another caller begins
-- ARGV[3]  and on, for each kind: limit, window in ms, hits, when it adds (0 never,
--          1 with room, 2 always), 1 if a lack of room denies, 1 to write or 0 to look
-- returns  for each caller an error, or {admitted 0|1, then for each counter: used,
--          reset ms, retry ms}
--
-- The same arithmetic as window.py, whose docstring has the theory; the clock is the
-- server's own, so that replicas with different clocks agree.

local call, unpacked, packed = redis.call, cmsgpack.unpack, cmsgpack.pack
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts = tonumber(ARGV[1])

local kinds = {}
for base = 3, #ARGV, 6 do
  local window = tonumber(ARGV[base + 1])
  local part = math.ceil(window / parts)
  kinds[#kinds + 1] = {
    limit = tonumber(ARGV[base]),
    window = window,
    cost = tonumber(ARGV[base + 2]),
    adds = tonumber(ARGV[base + 3]),
    denies = ARGV[base + 4] == '1',
    writes = ARGV[base + 5] == '1',
    part = part,
    index = math.floor(now / part),
    lasts = (parts + 1) * part,
  }
end

-- `flat` as it is stored; from `first` on it is in the window, `head` is the index
-- there and `last` the newest one.
local function load(key, kind)
  local stored = call('GET', key)
  local counter = {flat = {}, first = 1, head = kind.index, last = -1, used = 0}
  if not stored then return counter end
  local flat = unpacked(stored)
  local oldest, index, used, first = kind.index - parts, 0, 0, nil
  for i = 1, #flat, 2 do
    index = index + flat[i]
    if index >= oldest then
      if not first then
        first, counter.head = i, index
      end
      used = used + flat[i + 1]
    end
  end
  if first then
    counter.flat, counter.first, counter.last, counter.used = flat, first, index, used
  end
  return counter
end

local function retry_after(counter, kind)
  local over = counter.used + kind.cost - kind.limit
  if over <= 0 then return 0 end
  local flat, index = counter.flat, counter.head
  for i = counter.first, #flat, 2 do
    if i > counter.first then index = index + flat[i] end
    over = over - flat[i + 1]
    if over <= 0 then return (index + parts + 1) * kind.part - now end
  end
  return kind.window
end

local function charge(key, counter, kind)
  local flat = counter.flat
  if counter.first > 1 then
    flat = {unpack(flat, counter.first)}
    flat[1] = counter.head
  end
  local size = #flat
  if size == 0 then
    flat = {kind.index, kind.cost}
  elseif counter.last >= kind.index then
    flat[size] = flat[size] + kind.cost
  else
    flat[size + 1], flat[size + 2] = kind.index - counter.last, kind.cost
  end
  counter.last = math.max(counter.last, kind.index)
  counter.used = counter.used + kind.cost
  call('SET', key, packed(flat), 'PX', kind.lasts)
end

-- One caller, whose keys are from..to.
local function decide(from, to, kind_of)
  local counters, admitted = {}, 1
  for i = from, to do
    local kind = kind_of[i]
    local counter = load(KEYS[i], kind)
    counter.retry = retry_after(counter, kind)
    if counter.retry > 0 and kind.denies then admitted = 0 end
    counters[i] = counter
  end
  local answer, size = {admitted}, 1
  for i = from, to do
    local counter, kind = counters[i], kind_of[i]
    local fits = kind.adds == 2 or (kind.adds == 1 and counter.retry == 0)
    if fits and admitted == 1 and kind.writes and kind.cost > 0 then
      charge(KEYS[i], counter, kind)
    end
    answer[size + 1] = counter.used
    answer[size + 2] = counter.last < 0 and 0
      or (counter.head + parts + 1) * kind.part - now
    answer[size + 3] = counter.retry
    size = size + 3
  end
  return answer
end

local answers, kind_of, from = {}, {}, 1
for i = 1, #KEYS do
  local high, low = ARGV[2]:byte(2 * i - 1, 2 * i)
  kind_of[i] = kinds[high % 128 * 256 + low]
  local next_high = ARGV[2]:byte(2 * i + 1)
  if not next_high or next_high >= 128 then
    local done, answer = pcall(decide, from, i, kind_of)
    if not done then
      local text = type(answer) == 'table' and answer.err or tostring(answer)
      -- The server's own errors begin with a code, the interpreter's with a place.
      answer = {err = text:match('^%u+ ') and text or 'ERR ' .. text}
    end
    answers[#answers + 1], from = answer, i + 1
  end
end
return answers
