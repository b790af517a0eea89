// The Express stack that hubgate replaces. Tuned: the key is made once (jsonwebtoken
// parses a string at every call), the log is written in blocks, connections are kept.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const cors = require("cors");
const express = require("express");
const helmet = require("helmet");
const jwt = require("jsonwebtoken");
const pino = require("pino");
const pinoHttp = require("pino-http");
const Redis = require("ioredis").Redis;
const { createProxyMiddleware } = require("http-proxy-middleware");
const { rateLimit } = require("express-rate-limit");
const { RedisStore } = require("rate-limit-redis");

const limits = JSON.parse(process.env.LIMITS);
const key = crypto.createSecretKey(fs.readFileSync(process.env.SECRET_FILE));
const redis = new Redis(process.env.REDIS_URL);

function refuse(res, status, code, message) {
  res.status(status).json({ code, message, requestId: res.req.id });
}

async function authenticate(req, res, next) {
  const [scheme, token] = (req.headers.authorization || "").split(" ");
  if (scheme !== "Bearer" || !token) return refuse(res, 401, "TOKEN_MISSING", "Send a token");
  let claims;
  try {
    claims = jwt.verify(token, key, { algorithms: ["HS256"] });
  } catch {
    return refuse(res, 401, "TOKEN_INVALID", "This token is not valid");
  }
  try {
    if (await redis.exists(`bl:${claims.jti}`)) {
      return refuse(res, 401, "TOKEN_REVOKED", "This token was revoked");
    }
  } catch (error) {
    return next(error);
  }
  req.user = claims;
  req.headers["x-user-id"] = claims.sub;
  req.headers["x-user-role"] = claims.role;
  req.headers["x-request-id"] = req.id;
  return next();
}

function limiter(role) {
  const [limit, seconds] = limits[role];
  return rateLimit({
    windowMs: seconds * 1000,
    limit,
    standardHeaders: true,
    legacyHeaders: false,
    keyGenerator: (req) => req.user.sub,
    handler: (req, res) => refuse(res, 429, "RATE_LIMIT_EXCEEDED", "Too many requests"),
    store: new RedisStore({
      prefix: `rl:${role}:`,
      sendCommand: (command, ...args) => redis.call(command, ...args),
    }),
  });
}

require("./workers")(() => {
  const limiters = Object.fromEntries(Object.keys(limits).map((role) => [role, limiter(role)]));
  const log = pino(pino.destination({ dest: process.env.LOG, sync: false, minLength: 4096 }));
  const app = express();
  app.disable("x-powered-by");
  app.use(pinoHttp({ logger: log, genReqId: () => crypto.randomUUID() }));
  app.use(helmet());
  app.use(cors({ origin: process.env.ORIGIN, credentials: true }));
  app.use(authenticate);
  app.use((req, res, next) => limiters[req.user.role](req, res, next));
  app.use(
    createProxyMiddleware({
      target: process.env.UPSTREAM,
      agent: new http.Agent({ keepAlive: true, maxSockets: 256 }),
    }),
  );
  http.createServer(app).listen(Number(process.env.PORT), "127.0.0.1", 8192);
});
