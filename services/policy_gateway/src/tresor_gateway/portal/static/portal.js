// Shows an answer of the chat box while it comes. Without this file the form works as a plain form.
"use strict";

(() => {
  const form = document.getElementById("chat-form");
  if (!form || !window.ReadableStream || !window.AbortController) return;
  const result = document.getElementById("chat-result");
  const answer = document.getElementById("chat-answer");
  const stop = document.getElementById("chat-stop");
  const send = form.querySelector("button:not([type])");
  let running = null;

  function show(text, problem) {
    result.hidden = false;
    answer.classList.toggle("problem", problem);
    answer.textContent = text;
  }

  function take(event) {
    for (const line of event.split("\n")) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      for (const choice of chunk.choices || []) {
        answer.textContent += (choice.delta && choice.delta.content) || "";
      }
    }
  }

  async function read(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const events = rest.split("\n\n");
      rest = events.pop();
      events.forEach(take);
      if (done) return;
    }
  }

  async function ask() {
    running = new AbortController();
    send.disabled = true;
    stop.hidden = false;
    show("", false);
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        headers: { Accept: "text/event-stream" },
        credentials: "same-origin",
        redirect: "error",
        signal: running.signal,
      });
      if (!response.ok) {
        const body = await response.json();
        throw new Error(body.error.message);
      }
      await read(response);
    } catch (error) {
      if (error.name !== "AbortError") {
        show(answer.textContent + (answer.textContent ? "\n\n" : "") + error.message, true);
      }
    } finally {
      running = null;
      send.disabled = false;
      stop.hidden = true;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!running) ask();
  });
  stop.addEventListener("click", () => running && running.abort());
})();
