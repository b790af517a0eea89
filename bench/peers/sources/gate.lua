-- JWT HS256, blacklist and sliding window in nginx' access phase. Debian packages no
-- lua-resty-jwt and no lua-resty-redis: both are here as far as they are needed. One
-- round trip asks Redis for both answers.
local ffi = require "ffi"
local cjson = require "cjson.safe"
local base64 = require "ngx.base64"

ffi.cdef [[
  typedef struct evp_md_st EVP_MD;
  const EVP_MD *EVP_sha256(void);
  unsigned char *HMAC(const EVP_MD *md, const void *key, int key_len,
                      const unsigned char *data, size_t len,
                      unsigned char *out, unsigned int *out_len);
]]
local digest = ffi.new("unsigned char[32]")
local digest_length = ffi.new("unsigned int[1]")

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function command(...)
  local parts = {...}
  local out = {"*", #parts, "\r\n"}
  for _, part in ipairs(parts) do
    part = tostring(part)
    out[#out + 1] = "$" .. #part .. "\r\n" .. part .. "\r\n"
  end
  return table.concat(out)
end

local function reply(socket)
  local line, err = socket:receive("*l")
  if not line then return nil, err end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == ":" then return tonumber(rest) end
  if kind == "+" then return rest end
  if kind == "-" then return nil, rest end
  local found, size = {}, tonumber(rest)
  if kind == "$" then
    local text = socket:receive(size + 2)
    return text and text:sub(1, size)
  end
  for i = 1, size do found[i] = reply(socket) end
  return found
end

local function verify(secret, token)
  local signed, head, body, mac = token:match("^(([%w_-]+)%.([%w_-]+))%.([%w_-]+)$")
  if not signed then return nil end
  local header = cjson.decode(base64.decode_base64url(head) or "")
  if not header or header.alg ~= "HS256" then return nil end
  ffi.C.HMAC(ffi.C.EVP_sha256(), secret, #secret, signed, #signed, digest, digest_length)
  if base64.decode_base64url(mac) ~= ffi.string(digest, 32) then return nil end
  local claims = cjson.decode(base64.decode_base64url(body) or "")
  if not claims or not claims.exp or claims.exp < ngx.time() then return nil end
  return claims
end

local function refuse(status, code, message)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.say(cjson.encode{code = code, message = message, requestId = ngx.var.request_id})
  return ngx.exit(status)
end

local function connect(given)
  local socket = ngx.socket.tcp()
  socket:settimeout(1000)
  local ok, err = socket:connect("127.0.0.1", given.port, {pool_size = 256})
  if not ok then return nil, err end
  if socket:getreusedtimes() == 0 then
    socket:send(command("AUTH", given.password))
    ok, err = reply(socket)
    if not ok then return nil, err end
  end
  return socket
end

local function ask(given, claims)
  local limit = given.limits[claims.role]
  if not limit then return nil, "unknown role" end
  local socket, err = connect(given)
  if not socket then return nil, err end
  socket:send(command("EXISTS", "bl:" .. claims.jti)
    .. command("EVALSHA", given.script, 1, "rl:" .. claims.sub, limit[1], limit[2]))
  local revoked = reply(socket)
  local window = reply(socket)
  if not revoked or not window then return nil, "Redis" end
  socket:setkeepalive(60000, 256)
  return revoked == 1, window[1] == 1, window[2], limit[1]
end

local gate = {}

function gate.new(given)
  local secret = read(given.secret)
  return function()
    local token = (ngx.var.http_authorization or ""):match("^Bearer (.+)$")
    local claims = token and verify(secret, token)
    if not claims then return refuse(401, "TOKEN_INVALID", "A valid token is needed") end
    local revoked, passes, left, limit = ask(given, claims)
    if revoked == nil then return refuse(503, "UNAVAILABLE", passes) end
    if revoked then return refuse(401, "TOKEN_REVOKED", "This token was revoked") end
    ngx.header["RateLimit-Limit"] = limit
    ngx.header["RateLimit-Remaining"] = left
    if not passes then return refuse(429, "RATE_LIMIT_EXCEEDED", "Too many requests") end
    ngx.req.set_header("X-User-Id", claims.sub)
    ngx.req.set_header("X-User-Role", claims.role)
  end
end

return gate
