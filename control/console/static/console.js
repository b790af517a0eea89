// The console: signs in, asks for a view with the token as bearer, and puts it in place.
// Views come from our own origin and are escaped there; no script is ever in them.

const TOKEN = "hubgate.token";
const THEME = "hubgate.theme";
const FILTERS = ["period", "from", "to", "granularity", "timeZone", "measure", "service", "model", "user"];

const byId = (id) => document.getElementById(id);
const token = () => sessionStorage.getItem(TOKEN);

class Refused extends Error {
  constructor(status, body) {
    super(body.message || `The answer was ${status}`);
    this.status = status;
    this.problems = body.errors || [];
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.authorization = `Bearer ${token()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Error("The gateway does not answer; try again");
  }
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({})));
}

function say(text) {
  byId("status").textContent = text;
}

function complain(text) {
  const alert = byId("alert");
  alert.textContent = text || "";
  alert.hidden = !text;
}

function showSignIn(reason) {
  sessionStorage.removeItem(TOKEN);
  byId("view").replaceChildren();
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  complain(reason);
  byId("username").focus();
}

// What the address says is asked for: a reload or a link shows the same.
function wanted() {
  const given = new URLSearchParams(location.search);
  const asked = new URLSearchParams();
  for (const name of FILTERS) if (given.get(name)) asked.set(name, given.get(name));
  if (!asked.has("timeZone")) asked.set("timeZone", Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");
  return asked;
}

let loading = null;

async function load(focus) {
  loading?.abort();
  const turn = (loading = new AbortController());
  const view = byId("view");
  const asked = wanted();
  asked.set("width", String(Math.round(Math.min(view.clientWidth - 34, 1172))));
  view.setAttribute("aria-busy", "true");
  say("Loading");
  try {
    const answer = await ask(`/console/view?${asked}`, { signal: turn.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (turn.signal.aborted) return;
    complain("");
    view.replaceChildren(...page.body.childNodes);
    byId("sign-in").hidden = true;
    byId("sign-out").hidden = false;
    say("Loaded");
    byId(focus)?.focus();
  } catch (error) {
    if (turn.signal.aborted) return;
    failed(error);
  } finally {
    if (loading === turn) view.setAttribute("aria-busy", "false");
  }
}

function failed(error) {
  if (error.status === 401) return showSignIn(`${error.message}. Please sign in again.`);
  if (!byId("view").hasChildNodes() && byId("sign-out").hidden) byId("sign-in").hidden = false;
  complain(error.message);
  for (const one of document.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  for (const problem of error.problems || []) {
    const field = byId(`filter-${problem.field}`);
    field?.setAttribute("aria-invalid", "true");
    complain(`${byId("alert").textContent} ${problem.field}: ${problem.message}`);
  }
  say("");
}

async function signInByName(form) {
  const body = JSON.stringify({ username: form.username.value, password: form.password.value });
  try {
    sessionStorage.removeItem(TOKEN);
    const answer = await ask("/api/auth/login", { method: "POST", body, headers: { "content-type": "application/json" } });
    sessionStorage.setItem(TOKEN, (await answer.json()).accessToken);
  } catch (error) {
    const isAbsent = error.status === 404;
    return complain(isAbsent ? "Signing in by name works at the gateway's address; here, use a token." : error.message);
  } finally {
    form.password.value = "";
  }
  await load("title");
}

async function signInByToken(form) {
  sessionStorage.setItem(TOKEN, form.token.value.trim());
  form.token.value = "";
  await load("title");
}

async function signOut() {
  // The token is of no more use to whoever may have seen it; where there is no
  // auth-service, forgetting it is all that can be done.
  await ask("/api/auth/logout", { method: "POST" }).catch(() => {});
  history.replaceState(null, "", location.pathname);
  showSignIn("");
  say("Signed out");
}

function applyFilters(form) {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) asked.set(name, value);
  history.pushState(null, "", `?${asked}`);
  return load("apply");
}

async function download(form) {
  const asked = new URLSearchParams(form.dataset.query);
  asked.set("format", form.format.value);
  if (form.names?.value) asked.set("pseudonymize", form.names.value);
  const answer = await save(`/api/usage/export?${asked}`, form.querySelector("[type=submit]"));
  const manifest = /<([^>]+)>; *rel="describedby"/.exec(answer?.headers.get("link") || "");
  byId("manifest").hidden = !manifest;
  if (manifest) byId("manifest").dataset.path = manifest[1];
}

// A link could not carry the token: the file is fetched and then handed to the browser.
async function save(path, button, name) {
  button.disabled = true;
  say("Preparing the file");
  try {
    const answer = await ask(path);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = name || nameOf(answer) || "usage";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    complain("");
    say("The file is ready");
    return answer;
  } catch (error) {
    failed(error);
    return null;
  } finally {
    button.disabled = false;
  }
}

function nameOf(answer) {
  const found = /filename="([\w.-]+)"/.exec(answer.headers.get("content-disposition") || "");
  return found && found[1];
}

async function more(button) {
  button.disabled = true;
  try {
    const answer = await ask(`/console/calls?${button.dataset.query}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const rows = page.querySelectorAll("tbody tr");
    byId("calls").append(...rows);
    button.replaceWith(...page.querySelectorAll("button"));
    say(`${rows.length} more calls`);
    (byId("more") || rows[0])?.focus();
  } catch (error) {
    button.disabled = false;
    failed(error);
  }
}

function setTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  byId("theme").value = theme;
}

const forms = { "by-name": signInByName, "by-token": signInByToken, filters: applyFilters, export: download };

document.addEventListener("submit", (event) => {
  event.preventDefault();
  forms[event.target.id]?.(event.target);
});
document.addEventListener("click", (event) => {
  if (event.target.id === "sign-out") signOut();
  if (event.target.id === "more") more(event.target);
  if (event.target.id === "manifest") save(event.target.dataset.path, event.target, "usage.manifest.json");
});
document.addEventListener("change", (event) => {
  if (event.target.id === "filter-period") showDays();
  if (event.target.id === "theme") {
    localStorage.setItem(THEME, event.target.value);
    setTheme(event.target.value);
  }
});
addEventListener("popstate", () => token() && load("title"));

function showDays() {
  const isCustom = byId("filter-period").value === "custom";
  for (const one of document.querySelectorAll("[data-custom]")) one.hidden = !isCustom;
}

setTheme(localStorage.getItem(THEME) || "system");
if (token()) load("title");
else showSignIn("");
