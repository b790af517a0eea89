-- Sliding windows of many callers: a caller's are checked together, and charged
-- together or not at all, whatever becomes of the others.
--
-- KEYS     counters, one caller's after the other's, as redis_keys.py describes them
-- ARGV[1]  sub-windows per window
-- ARGV[2]  for each key two bytes, high first: which kind of charge, from 1, and
--          0x8000 where another caller begins
-- ARGV[3]  and on, for each kind: limit, window in ms, hits, when it adds (0 never,
--          1 with room, 2 always), 1 if a lack of room denies, 1 to write or 0 to look
-- returns  for each caller an error, or a text; in it for each counter: a byte, 1 if the
--          caller is admitted, and three integers of 8, low byte first: used, reset ms,
--          retry ms
--
-- The same arithmetic as window.py, whose docstring has the theory; the clock is the
-- server's own, so that replicas with different clocks agree. Before it stands
-- runtime/contracts/counters.lua, whose names it uses.
--
-- Everybody waits for this: a counter is not read entry by entry where its head says
-- enough, and is kept in locals, since a table of its own costs a third more.

local sub = string.sub
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts = tonumber(ARGV[1])

-- Where the entries begin, and in the head what a further hit changes.
local ENTRIES = 27
local TOTALS, TOTALS_OFFSET = '<dd', 10

local kinds = {}
for base = 3, #ARGV, 6 do
  local window, cost = tonumber(ARGV[base + 1]), tonumber(ARGV[base + 2])
  local adds, writes = tonumber(ARGV[base + 3]), ARGV[base + 5] == '1' and cost > 0
  local part = math.ceil(window / parts)
  local index = math.floor(now / part)
  kinds[#kinds + 1] = {
    limit = tonumber(ARGV[base]),
    window = window,
    cost = cost,
    adds_with_room = writes and adds > 0,
    adds_always = writes and adds == 2,
    denies = ARGV[base + 4] == '1',
    part = part,
    index = index,
    oldest = index - parts,
    lasts = (parts + 1) * part,
  }
end

local function retry_after(kind, used, head, last, width, stored, at)
  local over = used + kind.cost - kind.limit
  while at <= #stored do
    local hits, delta
    hits, delta, at = parsed(ENTRY[width], stored, at)
    over = over - hits
    if over <= 0 then return (head + parts + 1) * kind.part - now end
    head = head + delta
  end
  if over <= last then return (head + parts + 1) * kind.part - now end
  return kind.window
end

local function charge(key, kind, used, head, newest, last, width, stored, at)
  local cost, index = kind.cost, kind.index
  used = used + cost
  if newest >= index and at == ENTRIES then
    -- It expires as long after its newest part's first hit, which is late enough.
    call('SETRANGE', key, TOTALS_OFFSET, pack(TOTALS, used, last + cost))
    return
  end
  local entries = sub(stored, at)
  if newest >= index then
    last = last + cost
  else
    if last >= 256 ^ width then
      local flat = {}
      while at <= #stored do
        local size = #flat
        flat[size + 1], flat[size + 2], at = parsed(ENTRY[width], stored, at)
      end
      flat[#flat + 1], flat[#flat + 2] = last, index - newest
      width, entries = entries_of(flat)
    elseif newest >= 0 then
      entries = entries .. pack(ENTRY[width], last, index - newest)
    end
    newest, last = index, cost
  end
  local begins = pack(HEAD, width, newest - head, head, used, last)
  call('SET', key, begins .. entries, 'PX', kind.lasts)
end

-- One caller, whose keys are i..to: charged on the way back, when all have been seen.
local function decide(i, to, kind_of, admitted)
  local key, kind, others = KEYS[i], kind_of[i], nil
  local used, head, newest, last, width, stored, at = load(key, kind.oldest, kind.index)
  local retry = 0
  if used + kind.cost > kind.limit then
    retry = retry_after(kind, used, head, last, width, stored, at)
    admitted = admitted and not kind.denies
  end
  if i < to then others, admitted = decide(i + 1, to, kind_of, admitted) end
  if admitted and (kind.adds_always or (kind.adds_with_room and retry == 0)) then
    charge(key, kind, used, head, newest, last, width, stored, at)
    used = used + kind.cost
  end
  local reset = used > 0 and (head + parts + 1) * kind.part - now or 0
  local answer = pack('<Bi8i8i8', admitted and 1 or 0, used, reset, retry)
  return others and answer .. others or answer, admitted
end

local answers, kind_of, from, layout = {}, {}, 1, ARGV[2]
for i = 1, #KEYS do
  local high, low, next_high = byte(layout, 2 * i - 1, 2 * i + 1)
  kind_of[i] = kinds[high % 128 * 256 + low]
  if not next_high or next_high >= 128 then
    local done, answer = pcall(decide, from, i, kind_of, true)
    if not done then
      local text = type(answer) == 'table' and answer.err or tostring(answer)
      -- The server's own errors begin with a code, the interpreter's with a place.
      answer = {err = text:match('^%u+ ') and text or 'ERR ' .. text}
    end
    answers[#answers + 1], from = answer, i + 1
  end
end
return answers
