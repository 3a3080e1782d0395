// SPDX-License-Identifier: GPL-3.0-or-later
//
// The worker portal: one lease at a time in a sandboxed frame. The frame is a customer's page and is not trusted:
// it can only send messages, and all requests are made here. An answer is kept on this device until the service
// confirmed it, so that a lost connection or a closed tab costs nothing.
(function () {
  "use strict";

  const MAX_ANSWER = 256 * 1024;
  const DRAFT_EVERY = 5000; // ms between drafts sent to the service
  const HEARTBEAT_EVERY = 30000;
  const IDLE_AFTER = 60000; // without a sign of the worker, time is not counted
  const RETRY_FIRST = 1000;
  const RETRY_MOST = 30000;
  const POLL_MOST = 15000;
  const LATE_AFTER = 20000; // a page that says nothing for so long has a fault, or an endless loop
  const MAX_PREFS = 8192;

  const $ = (id) => document.getElementById(id);
  let frame = $("frame"); // the page that is worked on
  let spare = $("ahead"); // the next one, loading unseen
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  let ahead = null; // {ahead, ready}: what the unseen frame shows
  let pageId = ""; // how the page in the frame names itself: its lease, or how it was named when it was loaded ahead
  let lateTimer = null;
  let lease = null; // what the service gave us
  let active = 0; // seconds the worker spent on it
  let seenAt = Date.now(); // last sign of the worker
  let draftTimer = null;
  let unsentDraft = null;
  let busy = false; // a submit is on its way

  class Refused extends Error {
    constructor(status, error) {
      super(error.message || `The service answered ${status}.`);
      this.status = status;
      this.reason = error.reason || "";
    }
  }

  // --- requests ---------------------------------------------------------------------------------------------------

  async function call(method, path, body) {
    const response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
    if (response.status === 204) return { retryAfter: Number(response.headers.get("Retry-After")) || 0 };
    const value = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, value.error || {});
    return value;
  }

  // Repeats until the service answers: no connection and 5xx pass, a refusal does not.
  async function persist(method, path, body) {
    for (let pause = RETRY_FIRST; ; pause = Math.min(2 * pause, RETRY_MOST)) {
      try {
        const answer = await call(method, path, body);
        banner("");
        return answer;
      } catch (error) {
        if (error instanceof Refused && error.status < 500 && error.status !== 429) {
          banner("");
          throw error;
        }
        const full = error instanceof Refused && error.reason.startsWith("DISK_");
        banner(
          full
            ? "The service cannot save anything now: its disk is full. Please tell whoever runs it. Your answers are " +
                "kept on this device and sent as soon as there is space."
            : "No connection to the service. Your answers are kept on this device and sent as soon as it is back.",
        );
        await Promise.race([wait(pause), new Promise((resolve) => addEventListener("online", resolve, { once: true }))]);
      }
    }
  }

  // --- this device's memory ---------------------------------------------------------------------------------------

  const store = {
    get(key) {
      try {
        return JSON.parse(localStorage.getItem(`gandt.${key}`));
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        if (value === null) localStorage.removeItem(`gandt.${key}`);
        else localStorage.setItem(`gandt.${key}`, JSON.stringify(value));
      } catch {
        // Full or forbidden: the service's copy has to do.
      }
    },
  };

  // --- what is shown ----------------------------------------------------------------------------------------------

  function banner(text) {
    $("banner").textContent = text;
    $("banner").hidden = !text;
  }

  function notice(title, text, button, action) {
    clearTimeout(lateTimer);
    frame.hidden = true;
    frame.removeAttribute("src");
    $("actions").hidden = $("clock").hidden = true;
    $("notice").hidden = false;
    $("notice-title").textContent = title;
    $("notice-text").textContent = text;
    $("notice-button").hidden = !button;
    $("notice-button").textContent = button || "";
    $("notice-button").onclick = action || null;
  }

  // The worker's own pace: active seconds a photo over the last pages, on this device only.
  function pace() {
    const pages = store.get("pace") || [];
    const photos = pages.reduce((sum, page) => sum + page.photos, 0);
    return photos ? { photo: pages.reduce((sum, page) => sum + page.seconds, 0) / photos, photos: photos / pages.length } : null;
  }

  function paceText(remaining) {
    const own = pace();
    if (!own) return "";
    const minutes = Math.ceil((remaining * own.photo * own.photos) / 60);
    return ` · ${own.photo.toFixed(1)} s a photo` + (remaining > 0 ? ` · about ${minutes} min left` : "");
  }

  function countPage() {
    const tiles = (lease.task || {}).taskObject;
    const photos = Array.isArray(tiles) ? tiles.length : 1;
    store.set("pace", [...(store.get("pace") || []), { photos, seconds: Math.max(active, 1) }].slice(-10));
    const today = new Date().toDateString();
    const counted = store.get("today");
    store.set("today", { date: today, photos: photos + (counted && counted.date === today ? counted.photos : 0) });
  }

  function todayText() {
    const counted = store.get("today");
    return counted && counted.date === new Date().toDateString() ? ` · ${counted.photos} photos today` : "";
  }

  function showProgress(done, remaining) {
    const total = done + remaining;
    $("progress").hidden = total === 0;
    $("progress").max = Math.max(total, 1);
    $("progress").value = done;
  }

  function showLease() {
    const { done, remaining } = lease.progress;
    $("title").textContent = lease.title || lease.job;
    document.title = lease.title || "Labeling";
    $("progress-text").textContent =
      (remaining > 0 ? `Page ${done + 1} · about ${remaining} more` : `Page ${done + 1} · the last one for now`) +
      paceText(remaining + 1) +
      todayText();
    showProgress(done, remaining + 1);
    $("notice").hidden = true;
    $("actions").hidden = false;
    if (ahead && ahead.ahead === lease.ahead) {
      [frame, spare] = [spare, frame]; // it is there already
      pageId = ahead.ahead;
      spare.hidden = false;
    } else {
      pageId = lease.lease;
      frame.src = lease.frame_url;
    }
    const isReady = ahead && ahead.ahead === pageId && ahead.ready;
    ahead = null;
    spare.removeAttribute("src");
    for (const each of [frame, spare]) {
      const unseen = each === spare;
      each.id = unseen ? "ahead" : "frame";
      each.title = unseen ? "The next page" : "The page to label";
      each.classList.toggle("ahead", unseen);
      each.inert = unseen;
      if (unseen) each.setAttribute("aria-hidden", "true");
      else each.removeAttribute("aria-hidden");
      each.tabIndex = unseen ? -1 : 0;
    }
    frame.hidden = false;
    frame.focus();
    clearTimeout(lateTimer);
    if (isReady) ready();
    else lateTimer = setTimeout(() => banner("This page does not start. You can leave it to others, or reload."), LATE_AFTER);
  }

  const tell = (message) => frame.contentWindow.postMessage({ v: 1, ...message }, "*");

  function ready() {
    clearTimeout(lateTimer);
    banner("");
    document.body.dataset.state = "working";
    tell({ type: "show" });
    const kept = store.get("prefs");
    if (kept) tell({ type: "prefs", prefs: kept });
    const draft = store.get(`draft.${lease.lease}`) || lease.draft;
    if (draft) tell({ type: "restore", answer: draft });
    void loadAhead();
  }

  // While this page is worked on, the next one loads unseen. It is held for nobody: if somebody else takes it, it is
  // thrown away.
  async function loadAhead() {
    try {
      const answer = await call("GET", "/api/upcoming");
      if (!answer.frame_url || !lease) return;
      ahead = { ahead: answer.ahead, ready: false };
      spare.src = answer.frame_url;
    } catch {
      // The next page is then loaded when its turn comes.
    }
  }

  function showClock() {
    if (!lease) return;
    const left = Math.round(lease.seconds_left - (performance.now() - lease.since) / 1000);
    const clock = $("clock");
    clock.hidden = left > 600;
    clock.classList.toggle("soon", left < 120);
    clock.textContent = left > 0 ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")} left` : "Time is over";
  }

  // --- the way of one page ----------------------------------------------------------------------------------------

  async function next() {
    lease = null;
    let pause = 0;
    for (;;) {
      let answer;
      try {
        answer = await persist("POST", "/api/leases", ahead ? { ahead: ahead.ahead } : {});
      } catch (error) {
        return stopped(error);
      }
      if (answer.lease) {
        lease = { ...answer, since: performance.now() }; // this device's clock may be wrong
        active = 0;
        seenAt = Date.now();
        return showLease();
      }
      const found = await persist("GET", "/api/jobs").catch(() => ({}));
      const jobs = found.jobs || [];
      if (typeof found.paused === "string") {
        notice("Your work is paused", `${found.paused ? sentence(found.paused) + " " : ""}Please ask whoever invited you.`);
      } else if (jobs.length) {
        notice("Nothing for you right now", "Others are working on what is left. This page looks again by itself.");
      } else {
        notice("All done, thank you", "There is nothing to label at the moment. New work appears here by itself.");
      }
      const done = jobs.reduce((sum, job) => sum + job.done, 0);
      $("progress-text").textContent = "";
      $("progress").hidden = true;
      document.body.dataset.state = jobs.length ? "waiting" : "done";
      if (done) $("progress-text").textContent = `${done} ${done === 1 ? "page" : "pages"} done`;
      pause = Math.min((pause || 1000 * (answer.retryAfter || 2)) * 1.3, POLL_MOST);
      await wait(pause);
    }
  }

  function stopped(error) {
    document.body.dataset.state = "stopped";
    if (error.status === 401) {
      notice("Please open your invite link again", "This device is not signed in, or the invite is over.");
    } else {
      notice("Something went wrong", error.message, "Try again", () => location.reload());
    }
  }

  async function submit(answer) {
    if (busy || !lease) return;
    busy = true;
    dropDraft();
    const pending = { lease: lease.lease, answer, active_s: Math.round(active * 10) / 10 };
    store.set("pending", pending);
    $("actions").hidden = true;
    try {
      await send(pending);
      countPage();
      store.set(`draft.${pending.lease}`, null);
      document.body.dataset.state = "loading";
      await next();
    } catch (error) {
      if (error.status === 400 || error.status === 413) {
        banner(error.message);
        $("actions").hidden = false;
        tell({ type: "retry" });
      } else if (error.status === 401) {
        stopped(error);
      } else {
        notice("This page was not counted", sentence(error.message), "Next page", () => void next());
      }
    } finally {
      busy = false;
    }
  }

  async function send(pending) {
    try {
      return await persist("POST", `/api/leases/${pending.lease}/submit`, {
        answer: pending.answer,
        active_s: pending.active_s,
      });
    } finally {
      store.set("pending", null); // answered: accepted, or refused for good
    }
  }

  async function leave(how, body) {
    const left = lease;
    if (!left || busy) return;
    dropDraft();
    notice("One moment", "Your next page is on its way.");
    try {
      await persist("POST", `/api/leases/${left.lease}/${how}`, body);
    } catch (error) {
      if (error.status === 401) return stopped(error); // else it is over already: go on
    }
    store.set(`draft.${left.lease}`, null);
    await next();
  }

  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

  // --- drafts, presence -------------------------------------------------------------------------------------------

  function keepDraft(answer) {
    seenAt = Date.now();
    store.set(`draft.${lease.lease}`, answer);
    unsentDraft = { lease: lease.lease, answer };
    draftTimer = draftTimer || setTimeout(sendDraft, DRAFT_EVERY);
  }

  function sendDraft() {
    draftTimer = null;
    const draft = unsentDraft;
    unsentDraft = null;
    // A draft that gets lost is replaced by the next one, and this device has it too.
    if (draft) call("PUT", `/api/leases/${draft.lease}/draft`, { answer: draft.answer }).catch(() => {});
  }

  function dropDraft() {
    clearTimeout(draftTimer);
    draftTimer = unsentDraft = null;
  }

  setInterval(() => {
    showClock();
    if (lease && document.visibilityState === "visible" && document.hasFocus() && Date.now() - seenAt < IDLE_AFTER) {
      active += 1;
    }
  }, 1000);
  setInterval(() => {
    if (lease) call("POST", `/api/leases/${lease.lease}/heartbeat`, { active_s: active }).catch(() => {});
  }, HEARTBEAT_EVERY);
  for (const sign of ["pointermove", "keydown", "focus", "blur"]) {
    addEventListener(sign, () => (seenAt = Date.now()), { passive: true });
  }

  // --- messages from the frame ------------------------------------------------------------------------------------

  addEventListener("message", (event) => {
    const message = event.data;
    if (!message || message.v !== 1) return;
    if (ahead && event.source === spare.contentWindow) {
      if (message.type === "ready" && message.lease === ahead.ahead) ahead.ready = true;
      if (document.activeElement === spare) frame.focus();
      return; // nothing else counts from a page that nobody sees
    }
    if (!lease || event.source !== frame.contentWindow || message.lease !== pageId) return;
    seenAt = Date.now();
    if (message.type === "ready") {
      ready();
    } else if (message.type === "prefs") {
      if (message.prefs && JSON.stringify(message.prefs).length <= MAX_PREFS) store.set("prefs", message.prefs);
    } else if (message.type === "draft" || message.type === "submit") {
      const answer = message.answer;
      if (!answer || typeof answer !== "object" || Array.isArray(answer)) return;
      if (JSON.stringify(answer).length > MAX_ANSWER) return banner("This answer is too large to be sent.");
      if (message.type === "submit") void submit(answer);
      else if (!busy) keepDraft(answer);
    } else if (message.type === "unknown") {
      console.warn(`this page uses an element that is not known here: ${String(message.element).slice(0, 60)}`);
    }
  });

  $("give-back").onclick = () => void leave("return", {});
  $("decline").onclick = () => $("confirm").showModal();
  $("confirm").addEventListener("close", () => {
    if ($("confirm").returnValue === "yes") void leave("decline", { reason: "declined in the portal" });
    $("confirm").returnValue = "";
  });

  // --- start ------------------------------------------------------------------------------------------------------

  function signedIn() {
    return persist("GET", "/api/jobs").then(
      () => true,
      (error) => (error.status === 401 ? false : Promise.reject(error)),
    );
  }

  async function start() {
    const invite = new URLSearchParams(location.search).get("invite");
    try {
      // A session that lives goes on, so that opening a team link twice does not make a second worker.
      const isNew = invite && store.get("invite") !== invite;
      if (isNew || !(await signedIn())) {
        await persist("POST", "/api/session", { invite: invite || store.get("invite") || "" });
        if (invite) store.set("invite", invite);
      }
      if (invite) history.replaceState(null, "", "/work");
      const pending = store.get("pending");
      if (pending) await send(pending).catch(() => {}); // sent before the tab was closed, or over by now
    } catch (error) {
      return stopped(error);
    }
    await next();
  }

  void start();
})();
