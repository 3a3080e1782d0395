// SPDX-License-Identifier: GPL-3.0-or-later
//
// The few jQuery calls that labeling templates use (ready, classes, text, values, events), so that such a template
// runs on a page that loads nothing from other hosts. It is not jQuery: an unknown call fails with its name.
(function () {
  "use strict";
  if (window.jQuery) return;

  class Query {
    constructor(nodes) {
      this.nodes = nodes;
      this.length = nodes.length;
      nodes.forEach((node, place) => { this[place] = node; });
    }
    each(call) {
      this.nodes.forEach((node, place) => call.call(node, place, node));
      return this;
    }
    ready(call) {
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => call($));
      else call($);
      return this;
    }
    find(selector) {
      return new Query(this.nodes.flatMap((node) => [...node.querySelectorAll(selector)]));
    }
    filter(test) {
      const keep = typeof test === "function" ? (node, i) => test.call(node, i, node) : (node) => node.matches(test);
      return new Query(this.nodes.filter(keep));
    }
    closest(selector) {
      return new Query([...new Set(this.nodes.map((node) => node.closest(selector)).filter(Boolean))]);
    }
    parent() {
      return new Query([...new Set(this.nodes.map((node) => node.parentElement).filter(Boolean))]);
    }
    on(types, call) {
      return this.each((_, node) => types.split(/\s+/).forEach((type) => node.addEventListener(type, call)));
    }
    click(call) {
      return call ? this.on("click", call) : this.each((_, node) => node.click());
    }
    addClass(names) {
      return this.each((_, node) => node.classList.add(...names.split(/\s+/).filter(Boolean)));
    }
    removeClass(names) {
      return this.each((_, node) => node.classList.remove(...names.split(/\s+/).filter(Boolean)));
    }
    toggleClass(name, on) {
      return this.each((_, node) => node.classList.toggle(name, on));
    }
    hasClass(name) {
      return this.nodes.some((node) => node.classList.contains(name));
    }
    show() {
      return this.each((_, node) => { node.style.display = node.style.display === "none" ? "" : node.style.display; });
    }
    hide() {
      return this.each((_, node) => { node.style.display = "none"; });
    }
    text(value) {
      return this.property("textContent", value);
    }
    html(value) {
      return this.property("innerHTML", value);
    }
    val(value) {
      return this.property("value", value);
    }
    prop(name, value) {
      return this.property(name, value);
    }
    property(name, value) {
      if (value === undefined) return this.nodes[0] && this.nodes[0][name];
      return this.each((_, node) => { node[name] = value; });
    }
    attr(name, value) {
      if (value === undefined) return this.nodes[0] ? this.nodes[0].getAttribute(name) : undefined;
      return this.each((_, node) => node.setAttribute(name, value));
    }
    css(name, value) {
      return this.each((_, node) => { node.style[name] = value; });
    }
    get(place) {
      return place === undefined ? this.nodes : this.nodes[place];
    }
  }

  function $(target) {
    if (typeof target === "function") return new Query([document]).ready(target);
    if (typeof target === "string") return new Query([...document.querySelectorAll(target)]);
    if (target instanceof Query) return target;
    return new Query(target ? [target] : []);
  }
  window.$ = window.jQuery = $;
})();
