// SPDX-License-Identifier: GPL-3.0-or-later
//
// The crowd elements of worker templates, for pages served by G&T instead of by Ground Truth.
//
// Page to portal, by parent.postMessage to the origin in <meta name="gandt-portal"> (else "*"); each message has
// v: 1 and the lease of <meta name="gandt-lease">:
//   {type: "ready"}                 the form is there
//   {type: "height", height}        CSS pixels of the whole page
//   {type: "draft", answer}         what the form holds, at most once a second while it changes
//   {type: "submit", answer}        the worker's answer
//   {type: "prefs", prefs}          what the worker set on a page of ours (event "gandt:save" on the form)
//   {type: "unknown", element}      a crowd element that is not defined here: its children show, it submits nothing
// Portal to page, accepted from the parent window only:
//   {v: 1, type: "restore", answer}  an earlier draft: fills the named controls and fires "gandt:restore" on the form
//   {v: 1, type: "show"}             a page that was loaded ahead is seen now: fires "gandt:show" on the form
//   {v: 1, type: "prefs", prefs}     what the worker set before: fires "gandt:prefs" on the form
//   {v: 1, type: "retry"}            the submit was not accepted: the form can be submitted again
(function () {
  "use strict";

  const meta = (name) => (document.querySelector(`meta[name="gandt-${name}"]`) || {}).content || "";
  const post = (type, fields) =>
    window.parent.postMessage({ v: 1, type, lease: meta("lease"), ...fields }, meta("portal") || "*");
  const parsed = new Promise((resolve) => {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
    else resolve();
  });
  const json = (text, fallback) => {
    try {
      return JSON.parse(text);
    } catch {
      return fallback;
    }
  };
  const make = (tag, fields, ...children) => {
    const element = Object.assign(document.createElement(tag), fields);
    element.append(...children);
    return element;
  };
  let unique = 0;

  // A page that is loaded ahead must not take the keyboard from the one that is worked on.
  const focusElement = HTMLElement.prototype.focus, focusWindow = window.focus;
  const isAhead = meta("ahead") === "yes";
  if (isAhead) HTMLElement.prototype.focus = window.focus = () => {};

  // An element whose inside is built once, after its children are parsed.
  class Crowd extends HTMLElement {
    connectedCallback() {
      if (this.begun) return;
      this.begun = true;
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => this.build());
      else this.build();
    }
    build() {}
    contribution() {
      return undefined; // nothing of its own
    }
    flag(name) {
      return this.hasAttribute(name) && this.getAttribute(name) !== "false";
    }
  }
  const reflect = (type, ...names) => {
    for (const name of names) {
      Object.defineProperty(type.prototype, name, {
        get() {
          return this.flag(name);
        },
        set(value) {
          this.toggleAttribute(name, Boolean(value));
        },
      });
    }
  };

  class CrowdForm extends Crowd {
    build() {
      if (!this.querySelector('crowd-button[form-action="submit"], button[type="submit"], input[type="submit"]')) {
        const button = make("crowd-button", { textContent: "Submit" });
        button.setAttribute("form-action", "submit");
        button.setAttribute("variant", "primary");
        this.append(button);
      }
      this.addEventListener("click", (event) => {
        const native = event.target.closest('button[type="submit"], input[type="submit"]');
        if (native) {
          event.preventDefault();
          this.requestSubmit();
        }
      });
      this.addEventListener("submit", (event) => {
        if (event.target !== this) {
          event.preventDefault(); // a native form inside: the page must not navigate
          event.stopPropagation();
          this.requestSubmit();
        }
      });
      for (const type of ["input", "change"]) this.addEventListener(type, () => this.draft());
      this.addEventListener("gandt:save", (event) => post("prefs", { prefs: event.detail }));
      post("ready", {});
    }
    // Asks the page's own handlers, then the controls, then sends.
    requestSubmit() {
      if (this.sent) return;
      const event = new Event("submit", { cancelable: true });
      if (!this.dispatchEvent(event)) return;
      const invalid = [...this.querySelectorAll("input, select, textarea")].find((control) => !control.checkValidity());
      if (invalid) {
        invalid.reportValidity();
        return;
      }
      const missing = [...this.querySelectorAll("*")].find((element) => element.missing && element.missing());
      if (missing) {
        missing.scrollIntoView({ block: "center" });
        announce(missing, "Please choose an answer here.");
        return;
      }
      this.submit();
    }
    submit() {
      if (this.sent) return;
      this.sent = true;
      clearTimeout(this.timer);
      post("submit", { answer: this.answer() });
    }
    answer() {
      const answer = Object.create(null);
      for (const element of this.querySelectorAll("*")) {
        const name = element.getAttribute("name");
        if (!name || element.closest("[data-crowd-inner]")) continue;
        const value = element instanceof Crowd ? element.contribution() : native(element);
        if (value === undefined) continue;
        const known = answer[name];
        const merges = known && typeof known === "object" && typeof value === "object";
        answer[name] = merges ? { ...known, ...value } : value;
      }
      return { ...answer };
    }
    draft() {
      if (this.timer || this.sent) return;
      this.timer = setTimeout(() => {
        this.timer = 0;
        if (!this.sent) post("draft", { answer: this.answer() });
      }, 1000);
    }
    restore(answer) {
      for (const element of this.querySelectorAll("[name]")) {
        const value = answer[element.getAttribute("name")];
        if (value === undefined || element.closest("[data-crowd-inner]")) continue;
        if (element instanceof Crowd) {
          if (element.fill) element.fill(value);
        } else if (element.type === "checkbox" || element.type === "radio") {
          element.checked = [].concat(value).includes(element.value);
        } else if (typeof value === "string") {
          element.value = value;
        }
      }
      this.dispatchEvent(new CustomEvent("gandt:restore", { detail: answer }));
    }
    reset() {
      for (const element of this.querySelectorAll("input, textarea, select")) {
        if (element.type === "checkbox" || element.type === "radio") element.checked = element.defaultChecked;
        else if (element.type !== "hidden" && "defaultValue" in element) element.value = element.defaultValue;
      }
      this.dispatchEvent(new Event("reset"));
    }
  }

  function native(element) {
    if (element instanceof HTMLSelectElement && element.multiple) {
      return [...element.selectedOptions].map((option) => option.value);
    }
    if (element instanceof HTMLInputElement && (element.type === "checkbox" || element.type === "radio")) {
      return element.checked ? element.value : undefined;
    }
    const control = element instanceof HTMLInputElement || element instanceof HTMLSelectElement;
    const skipped = ["button", "submit", "reset", "image", "file", "password"];
    if ((control && !skipped.includes(element.type)) || element instanceof HTMLTextAreaElement) {
      return element.disabled ? undefined : element.value;
    }
    return undefined;
  }

  function announce(element, text) {
    let note = element.querySelector(":scope > .crowd-error");
    if (!note) {
      note = make("p", { className: "crowd-error" });
      note.setAttribute("role", "alert");
      element.append(note);
    }
    note.textContent = text;
    element.addEventListener("change", () => note.remove(), { once: true });
  }

  class CrowdButton extends Crowd {
    build() {
      if (!this.hasAttribute("role")) this.setAttribute("role", "button");
      if (!this.hasAttribute("tabindex")) this.tabIndex = 0;
      this.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        this.dispatchEvent(new MouseEvent("mouseup", { bubbles: true })); // older templates listen to that alone
        this.click();
      });
      this.addEventListener("click", () => {
        const form = this.closest("crowd-form");
        const action = this.getAttribute("form-action");
        if (!form || (this.disabled && action)) return;
        if (action === "submit") form.requestSubmit();
        if (action === "reset") form.reset();
      });
    }
  }
  reflect(CrowdButton, "disabled");

  // A labeled native control that stands for the element.
  class CrowdControl extends Crowd {
    wrap(control, before) {
      this.control = control;
      const label = make("label", {});
      label.dataset.crowdInner = "";
      label.append(...(before ? [control, ...this.childNodes] : [...this.childNodes, control]));
      this.append(label);
      control.disabled = this.flag("disabled");
      control.required = this.flag("required");
      return label;
    }
    get value() {
      return this.control ? this.control.value : this.getAttribute("value");
    }
    set value(text) {
      if (this.control) this.control.value = text;
      else this.setAttribute("value", text);
    }
  }

  class CrowdCheckbox extends CrowdControl {
    build() {
      this.wrap(make("input", { type: this.type, checked: this.flag("checked") }), true);
      this.control.addEventListener("change", () => this.toggleAttribute("checked", this.control.checked));
    }
    get type() {
      return "checkbox";
    }
    get checked() {
      return this.control ? this.control.checked : this.flag("checked");
    }
    set checked(on) {
      this.toggleAttribute("checked", Boolean(on));
      if (this.control) this.control.checked = Boolean(on);
    }
    get value() {
      return this.getAttribute("value") || "on";
    }
    set value(text) {
      this.setAttribute("value", text);
    }
    contribution() {
      return { [this.value]: this.checked };
    }
    fill(value) {
      this.checked = Boolean(value && value[this.value]);
    }
  }

  class CrowdRadioButton extends CrowdCheckbox {
    build() {
      super.build();
      this.control.required = false; // not supported by the original elements either
      const group = this.closest("crowd-radio-group");
      if (group) this.control.name = group.groupName;
      this.control.addEventListener("change", () => {
        for (const other of group ? group.querySelectorAll("crowd-radio-button") : []) {
          other.toggleAttribute("checked", other.control && other.control.checked);
        }
      });
    }
    get type() {
      return "radio";
    }
  }

  class CrowdRadioGroup extends Crowd {
    build() {
      this.setAttribute("role", "radiogroup");
    }
    get groupName() {
      this.unique = this.unique || `crowd-radio-${(unique += 1)}`;
      return this.unique;
    }
  }

  class CrowdInput extends CrowdControl {
    build() {
      const control = make("input", { type: this.getAttribute("type") || "text", value: this.getAttribute("value") || "" });
      this.dress(control);
      if (this.hasAttribute("allowed-pattern")) control.pattern = `(?:${this.getAttribute("allowed-pattern")})*`;
    }
    dress(control) {
      control.placeholder = this.getAttribute("placeholder") || "";
      const longest = Number(this.getAttribute("max-length") || this.getAttribute("maxlength"));
      if (longest > 0) control.maxLength = longest;
      const label = this.wrap(control, false);
      label.prepend(this.getAttribute("label") || "");
    }
    contribution() {
      return this.value || undefined;
    }
    fill(value) {
      if (typeof value === "string") this.value = value;
    }
  }

  class CrowdTextArea extends CrowdInput {
    build() {
      const rows = Number(this.getAttribute("rows")) || 4;
      this.dress(make("textarea", { rows, value: this.getAttribute("value") || "" }));
    }
    contribution() {
      return this.value;
    }
  }

  class CrowdSlider extends CrowdInput {
    build() {
      const control = make("input", { type: "range" });
      for (const name of ["min", "max", "step", "value"]) {
        if (this.hasAttribute(name)) control[name] = this.getAttribute(name);
      }
      this.dress(control);
    }
    contribution() {
      return Number(this.value);
    }
    fill(value) {
      this.value = String(value);
    }
  }

  // What crowd-classifier and crowd-image-classifier share, for one and for several labels.
  class CrowdClassifier extends Crowd {
    build() {
      const header = this.getAttribute("header");
      if (header) this.prepend(make("h2", { textContent: header }));
      if (this.hasAttribute("src")) {
        this.append(make("img", { src: this.getAttribute("src"), alt: "picture to classify", className: "crowd-picture" }));
      }
      const box = make("fieldset", {}, make("legend", { textContent: this.many ? "Choose all that fit" : "Choose one" }));
      box.dataset.crowdInner = "";
      const name = `crowd-classes-${(unique += 1)}`;
      const labels = json(this.getAttribute("categories") || "[]", []).map((item) =>
        typeof item === "string" ? { text: item, value: item } : { text: item.label, value: item.value || item.label },
      );
      const excluding = json(this.getAttribute("exclusion-category") || "null", null);
      if (this.many && excluding) labels.push({ text: excluding.text, value: excluding.text, excludes: true });
      this.boxes = labels.map((label) => {
        const control = make("input", { type: this.many ? "checkbox" : "radio", name, value: label.value });
        control.addEventListener("change", () => {
          for (const other of this.boxes) {
            if (control.checked && other !== control && (label.excludes || other.excludes)) other.checked = false;
          }
        });
        control.excludes = Boolean(label.excludes);
        box.append(make("label", {}, control, ` ${label.text}`));
        return control;
      });
      this.append(box);
    }
    get many() {
      return this.localName.endsWith("multi-select");
    }
    get chosen() {
      return (this.boxes || []).filter((control) => control.checked).map((control) => control.value);
    }
    missing() {
      return !this.chosen.length;
    }
    contribution() {
      if (this.many) return { labels: this.chosen };
      return this.chosen.length ? { label: this.chosen[0] } : undefined;
    }
    fill(value) {
      const labels = this.many ? value.labels || [] : [value.label];
      for (const control of this.boxes) control.checked = labels.includes(control.value);
    }
  }

  class CrowdInstructions extends Crowd {
    build() {
      const title = this.getAttribute("link-text") || "Instructions";
      const details = make("details", { open: this.localName === "crowd-instructions" });
      details.append(make("summary", { textContent: title }), ...this.childNodes);
      this.append(details);
    }
  }

  class CrowdTab extends Crowd {
    build() {
      this.prepend(make("h2", { textContent: this.getAttribute("header") || "" }));
    }
  }

  class CrowdAlert extends Crowd {
    build() {
      this.setAttribute("role", this.getAttribute("type") === "error" ? "alert" : "status");
      if (!this.flag("dismissible")) return;
      const button = make("button", { type: "button", textContent: "Dismiss" });
      button.addEventListener("click", () => this.remove());
      this.append(button);
    }
  }

  class CrowdModal extends Crowd {
    build() {
      const close = make("button", { type: "button", textContent: "Close" });
      close.addEventListener("click", () => this.close());
      this.dialog = make("dialog", {}, ...this.childNodes, close);
      this.append(this.dialog);
      if (this.flag("open")) this.open();
    }
    open() {
      if (!this.dialog.open) this.dialog.showModal();
    }
    close() {
      this.dialog.close();
    }
  }

  class CrowdPlain extends Crowd {} // shows its children, submits nothing

  const elements = {
    "crowd-form": CrowdForm,
    "crowd-button": CrowdButton,
    "crowd-checkbox": CrowdCheckbox,
    "crowd-toggle-button": class extends CrowdCheckbox {},
    "crowd-radio-button": CrowdRadioButton,
    "crowd-radio-group": CrowdRadioGroup,
    "crowd-input": CrowdInput,
    "crowd-text-area": CrowdTextArea,
    "crowd-slider": CrowdSlider,
    "crowd-classifier": CrowdClassifier,
    "crowd-classifier-multi-select": class extends CrowdClassifier {},
    "crowd-image-classifier": class extends CrowdClassifier {},
    "crowd-image-classifier-multi-select": class extends CrowdClassifier {},
    "crowd-instructions": CrowdInstructions,
    "crowd-tab": CrowdTab,
    "crowd-alert": CrowdAlert,
    "crowd-modal": CrowdModal,
    "crowd-tabs": CrowdPlain,
    "crowd-card": class extends CrowdPlain {},
    "crowd-badge": class extends CrowdPlain {},
    "crowd-icon": class extends CrowdPlain {},
  };
  const style = document.createElement("style");
  style.textContent = `
    crowd-form { display: block; font-family: system-ui, sans-serif; }
    crowd-button { display: inline-block; min-height: 44px; box-sizing: border-box; padding: 8px 16px; border: 1px solid #545b64;
      border-radius: 4px; cursor: pointer; user-select: none; background: #fff; color: #16191f; }
    crowd-button[variant="primary"] { background: #0b5394; border-color: #0b5394; color: #fff; }
    crowd-button[disabled] { background: #16191f; color: #fff; }
    crowd-button:focus-visible { outline: 3px solid #0b5394; outline-offset: 2px; }
    crowd-checkbox, crowd-radio-button, crowd-input, crowd-text-area, crowd-slider { display: block; margin: 6px 0; }
    crowd-card, crowd-tab, crowd-tabs, crowd-alert, crowd-radio-group, crowd-instructions { display: block; }
    fieldset[data-crowd-inner] label { display: block; padding: 6px 0; }
    .crowd-error { color: #b00020; font-weight: 600; }
    .crowd-picture { max-width: 100%; max-height: 70vh; }
    [data-crowd-inner] textarea { width: 100%; }`;
  (document.head || document.documentElement).append(style);
  for (const [name, type] of Object.entries(elements)) {
    if (!customElements.get(name)) customElements.define(name, type);
  }

  window.addEventListener("message", (event) => {
    const form = document.querySelector("crowd-form");
    const message = event.data;
    if (event.source !== window.parent || !form || !message || message.v !== 1) return;
    if (message.type === "retry") form.sent = false;
    if (message.type === "show" && isAhead) {
      HTMLElement.prototype.focus = focusElement;
      window.focus = focusWindow;
      form.dispatchEvent(new CustomEvent("gandt:show"));
    }
    if (message.type === "prefs") form.dispatchEvent(new CustomEvent("gandt:prefs", { detail: message.prefs }));
    if (message.type === "restore" && message.answer && typeof message.answer === "object") form.restore(message.answer);
  });
  parsed.then(() => {
    for (const name of new Set([...document.querySelectorAll("*")].map((element) => element.localName))) {
      if (name.startsWith("crowd-") && !customElements.get(name)) {
        console.warn(`${name} is not supported here: its children are shown, it submits nothing`);
        post("unknown", { element: name });
      }
    }
    new ResizeObserver(() => post("height", { height: document.documentElement.scrollHeight })).observe(document.body);
  });
})();
