// SPDX-License-Identifier: GPL-3.0-or-later
//
// The operator's page: campaigns and rounds, the queue, images in doubt, people, the log. Whatever comes from workers
// or file names is put in as text, never as markup.
(function () {
  "use strict";

  const REFRESH_EVERY = 10000;
  const VIEWS = ["work", "review", "people", "log"];
  const $ = (id) => document.getElementById(id);
  let view = "work";

  async function call(method, path, body) {
    const response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
    if (response.status === 204) return null;
    const value = await response.json().catch(() => ({}));
    if (!response.ok) {
      const error = new Error((value.error || {}).message || `The service answered ${response.status}.`);
      throw Object.assign(error, { status: response.status });
    }
    return value;
  }

  function banner(text) {
    $("banner").textContent = text;
    $("banner").hidden = !text;
  }

  // Runs something and tells what went wrong; a lost session leads back to the login.
  async function attempt(work) {
    try {
      await work();
      banner("");
    } catch (error) {
      if (error.status === 401) return showLogin();
      banner(error.status ? error.message : "The service does not answer. This page looks again by itself.");
    }
  }

  function make(tag, fields, ...children) {
    const { data, ...rest } = fields || {};
    const element = Object.assign(document.createElement(tag), rest);
    Object.assign(element.dataset, data || {});
    element.append(...children);
    return element;
  }

  // Columns are [title, value of a row, kind]; kind is "", "number", "text" or "node".
  function table(into, columns, rows, empty) {
    const head = columns.map(([title, , kind]) => make(title ? "th" : "td", { ...(title ? { scope: "col" } : {}), className: kind === "number" ? kind : "", textContent: title }));
    const body = rows.map((row) =>
      make("tr", {}, ...columns.map(([, value, kind]) => make("td", { className: kind === "node" ? "" : kind }, value(row)))),
    );
    if (!rows.length) return into.replaceChildren(make("p", { className: "quiet", textContent: empty }));
    into.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  }

  const usd = (micros) => `${(micros / 1e6).toFixed(2)} USD`;
  const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);
  const time = (text) => new Date(text).toLocaleString();
  const pauseButton = (name, paused, press) => {
    const button = make("button", { type: "button", textContent: paused ? "Resume" : "Pause" });
    button.setAttribute("aria-label", `${button.textContent} ${name}`);
    button.onclick = () => attempt(async () => { await press(!paused); await refresh(); });
    return button;
  };

  function showCampaigns(answer) {
    const cards = answer.campaigns.map((each) => {
      const head = make("div", { className: "head" }, make("h3", { textContent: each.title }), make("span", { textContent: each.state }));
      if (["running", "paused"].includes(each.state)) {
        head.append(pauseButton(each.title, each.paused, (paused) => call("POST", `/api/operator/campaigns/${each.campaign}`, { paused })));
      }
      const rounds = make("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: `Rounds of ${each.title}` });
      table(rounds, [
        ["Round", (r) => String(r.number), "number"], ["State", (r) => r.state, ""], ["Strategy", (r) => r.strategy, ""],
        ["Images", (r) => String(r.images), "number"], ["Answers", (r) => String(r.answers), "number"],
        ["Found", (r) => String(r.targets_found), "number"], ["Cost", (r) => usd(r.cost_usd_micros), "number"],
      ], each.rounds, "No round yet.");
      const money = `${usd(each.spent_usd_micros)} spent, ${usd(each.reserved_usd_micros)} reserved` +
        (each.budget_usd_micros ? `, of ${usd(each.budget_usd_micros)}` : "");
      return make("article", { className: "campaign" }, head, make("p", { className: "quiet", textContent: money }), make("p", { textContent: each.message }), rounds);
    });
    const none = answer.controller ? "No campaign yet." : "No job controller is connected: rounds, money and reviews are with it.";
    $("campaigns").replaceChildren(...(cards.length ? cards : [make("p", { className: "quiet", textContent: none })]));
  }

  function showJobs(jobs) {
    table($("jobs"), [
      ["Job", (j) => j.job, ""], ["Status", (j) => (j.paused ? `${j.status}, paused` : j.status), ""],
      ["Pages", (j) => String(j.pages), "number"], ["Labeled", (j) => String(j.labeled), "number"],
      ["Failed", (j) => String(j.failed), "number"], ["Waiting", (j) => String(j.waiting + j.open), "number"],
      ["In work", (j) => String(j.in_work), "number"], ["Answers", (j) => `${j.answers} of ${j.pages * j.workers_per_page}`, "number"],
      ["Owed", (j) => usd(j.owed_usd_micros), "number"],
      ["", (j) => j.status === "InProgress" ? pauseButton(j.job, j.paused, (paused) => call("POST", `/api/operator/jobs/${j.job}`, { paused })) : "", "node"],
    ], jobs, "No labeling job yet.");
  }

  function showWorkers(workers) {
    table($("workers"), [
      ["Worker", (w) => w.worker, ""], ["Seen", (w) => time(w.seen_at), ""], ["Pages", (w) => String(w.pages), "number"],
      ["Pace", (w) => (w.page_seconds === null ? "–" : `${w.page_seconds.toFixed(1)} s a page`), "number"],
      ["Agreement", (w) => `${percent(w.agreement)} of ${w.compared}`, "number"],
      ["Gold", (w) => percent(w.gold_accuracy), "number"],
      ["Owed", (w) => usd(w.owed_usd_micros), "number"],
      ["State", (w) => (w.reason ? `${w.state}: ${w.reason}` : w.state), "text"],
      ["", (w) => pauseButton(w.worker, w.state === "paused", (paused) => call("POST", `/api/operator/workers/${w.worker}`, { paused, reason: paused ? "by the operator" : "" })), "node"],
    ], workers, "Nobody has come yet.");
  }

  async function showDoubtful() {
    const { campaigns } = await call("GET", "/api/operator/campaigns");
    if (!campaigns.length) {
      $("doubtful").replaceChildren();
      $("review-note").textContent = "There is no campaign to review.";
      return;
    }
    const campaign = campaigns[0].campaign;
    const found = await call("GET", `/api/operator/doubtful?campaign=${encodeURIComponent(campaign)}`);
    let left = found.total;
    const say = () => { $("review-note").textContent = left ? `${left} in doubt, the most doubtful first.` : "Nothing is in doubt."; };
    const cards = found.images.map((image) => {
      const card = make("article", { className: "doubt" });
      const told = `${image.labels.join(" | ") || "no label"} · ${image.status} · ${image.agreeing} of ${image.answers} agree`;
      const decide = (labels) => attempt(async () => {
        await call("POST", "/api/operator/reviews", { campaign, image: image.image, labels });
        const next = card.nextElementSibling || card.previousElementSibling;
        card.remove();
        left -= 1;
        say();
        if (next) next.querySelector("button").focus();
      });
      const chosen = new Set(image.labels);
      const buttons = found.classes.map((label) => {
        const button = make("button", { type: "button", textContent: label });
        if (!found.multi_label) button.onclick = () => decide([label]);
        else {
          button.setAttribute("aria-pressed", String(chosen.has(label)));
          button.onclick = () => {
            if (!chosen.delete(label)) chosen.add(label);
            button.setAttribute("aria-pressed", String(chosen.has(label)));
          };
        }
        return button;
      });
      if (found.multi_label) {
        buttons.push(make("button", { type: "button", className: "strong", textContent: "Save", onclick: () => decide([...chosen]) }));
      }
      const picture = image.url ? [make("img", { src: image.url, alt: image.name, loading: "lazy", width: 256, height: 256 })] : [];
      card.append(...picture, make("p", { textContent: image.name }), make("p", { textContent: told }), make("div", { className: "choices" }, ...buttons));
      return card;
    });
    $("doubtful").replaceChildren(...cards);
    say();
  }

  async function refresh() {
    if (view === "work" || view === "people") {
      const overview = await call("GET", "/api/operator/overview");
      showJobs(overview.jobs);
      showWorkers(overview.workers);
    }
    if (view === "work") showCampaigns(await call("GET", "/api/operator/campaigns"));
    if (view === "log") {
      const { entries } = await call("GET", "/api/operator/audit");
      table($("entries"), [
        ["When", (e) => time(e.at), ""], ["Who", (e) => e.actor, ""], ["What", (e) => e.action, ""],
        ["Of", (e) => e.object, "text"], ["Detail", (e) => e.detail, "text"],
      ], entries, "Nothing yet.");
    }
    document.body.dataset.state = "ready";
  }

  function show(name) {
    view = name;
    for (const each of VIEWS) $(each).hidden = each !== name;
    for (const button of $("tabs").children) button.setAttribute("aria-pressed", String(button.dataset.view === name));
    return attempt(name === "review" ? showDoubtful : refresh);
  }

  function showLogin() {
    for (const each of VIEWS) $(each).hidden = true;
    $("tabs").hidden = true;
    $("login").hidden = false;
    $("token").focus();
    document.body.dataset.state = "login";
  }

  $("login").onsubmit = (event) => {
    event.preventDefault();
    void (async () => {
      try {
        await call("POST", "/api/operator/session", { token: $("token").value.trim() });
      } catch (error) {
        return banner(error.message);
      }
      $("token").value = "";
      banner("");
      begin();
    })();
  };
  $("invite").onsubmit = (event) => {
    event.preventDefault();
    void attempt(async () => { $("link").textContent = (await call("POST", "/api/invites", { name: $("name").value.trim() })).url; });
  };
  for (const button of $("tabs").children) button.onclick = () => void show(button.dataset.view);
  setInterval(() => {
    const quiet = document.hidden || view === "review" || document.body.dataset.state !== "ready";
    if (!quiet && !document.querySelector("main :focus-visible")) void attempt(refresh); // nothing moves under the keys
  }, REFRESH_EVERY);

  function begin() {
    $("login").hidden = true;
    $("tabs").hidden = false;
    void show("work");
  }

  call("GET", "/api/operator/audit").then(begin, showLogin);
})();
