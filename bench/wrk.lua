-- wrk's requests: a token of the file each, and a path of `paths` many.
-- Arguments: file of tokens of one length, tokens to skip, path (with %d), paths.
-- Up to `kept` tokens are requests before the time starts; more are read as they go.
local kept = 20000
local path, paths, file, length, head
local requests, n = {}, 0

local function build(i, token)
  return head:format(path:format(i % paths), token)
end

function init(args)
  file = assert(io.open(args[1], "r"))
  path, paths = args[3], tonumber(args[4])
  head = "GET %s HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
    .. "\r\nOrigin: https://app.example\r\nAuthorization: Bearer %s\r\n\r\n"
  length = #file:read("*l") + 1
  local total = file:seek("end") / length
  file:seek("set", (tonumber(args[2]) % total) * length)
  if total <= kept then
    file:seek("set", 0)
    local tokens = {}
    for token in file:lines() do tokens[#tokens + 1] = token end
    local count = #tokens * paths <= kept and #tokens * paths or math.max(#tokens, paths)
    for i = 0, count - 1 do requests[i] = build(i, tokens[i % #tokens + 1]) end
    requests.count = count
  end
end

function request()
  n = n + 1
  if requests.count then return requests[n % requests.count] end
  local token = file:read("*l")
  if not token then
    file:seek("set", 0)
    token = file:read("*l")
  end
  return build(n, token)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
