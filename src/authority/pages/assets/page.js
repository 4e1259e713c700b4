// What pages cannot do without a script: ask the browser for a passkey, copy a code, print, tell the time where one is.
// Everything else works without it. It sends nothing by itself: a form's hidden field is filled in, and the form is sent.
"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const listed = (list) => (list || []).map((entry) => ({ ...entry, id: bytes(entry.id) }));

  // WebAuthn Level 3, §5.1.8 to §5.1.10, for browsers that have no parse…FromJSON and no toJSON yet.
  const forCreation = (o) => ({
    ...o,
    challenge: bytes(o.challenge),
    user: { ...o.user, id: bytes(o.user.id) },
    excludeCredentials: listed(o.excludeCredentials),
  });
  const forRequest = (o) => ({ ...o, challenge: bytes(o.challenge), allowCredentials: listed(o.allowCredentials) });

  const written = (credential) => {
    const { response } = credential;
    const out = response.attestationObject
      ? {
          attestationObject: text(response.attestationObject),
          clientDataJSON: text(response.clientDataJSON),
          transports: response.getTransports ? response.getTransports() : [],
        }
      : {
          authenticatorData: text(response.authenticatorData),
          clientDataJSON: text(response.clientDataJSON),
          signature: text(response.signature),
          userHandle: response.userHandle ? text(response.userHandle) : null,
        };
    return JSON.stringify({
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment || undefined,
      clientExtensionResults: credential.getClientExtensionResults(),
      response: out,
    });
  };

  const why = (error, creating) => {
    if (error.name === "InvalidStateError" && creating) return "This device has a passkey for this account already.";
    if (error.name === "NotAllowedError" || error.name === "AbortError")
      return "Nothing was confirmed: the request was cancelled, or took too long. You can try again.";
    if (error.name === "SecurityError") return "This page cannot use passkeys here. Open it at its own address.";
    return "The passkey could not be used. You can try again, or take another way.";
  };

  const passkey = (form) => {
    const creating = form.dataset.passkey === "create";
    const button = form.querySelector("button");
    const live = form.querySelector("[role=alert]");
    if (!window.PublicKeyCredential || !navigator.credentials) {
      button.disabled = true;
      live.textContent = "This browser has no passkeys. Take another way, or another browser.";
      return;
    }
    button.hidden = false;
    form.addEventListener("submit", async (event) => {
      if (form.elements.credential.value) return;
      event.preventDefault();
      if (button.disabled) return;
      live.textContent = "";
      button.disabled = true;
      try {
        const options = JSON.parse(form.dataset.options);
        const credential = creating
          ? await navigator.credentials.create({ publicKey: forCreation(options) })
          : await navigator.credentials.get({ publicKey: forRequest(options) });
        form.elements.credential.value = written(credential);
        form.submit();
      } catch (error) {
        live.textContent = why(error, creating);
        button.disabled = false;
        button.focus();
      }
    });
  };

  const copy = (button) => {
    const from = document.getElementById(button.dataset.copy);
    if (!from || !navigator.clipboard) return;
    const live = document.getElementById(button.dataset.says);
    button.hidden = false;
    button.addEventListener("click", async () => {
      const items = [...from.querySelectorAll("li")].map((item) => item.textContent.trim());
      try {
        await navigator.clipboard.writeText(items.length ? items.join("\n") + "\n" : from.textContent.trim());
        live.textContent = "Copied.";
      } catch {
        live.textContent = "It could not be copied. Select it, and copy it by hand.";
      }
    });
  };

  const local = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short" });
  document.querySelectorAll("time").forEach((time) => {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.valueOf())) time.textContent = local.format(at);
  });
  document.querySelectorAll("form[data-passkey]").forEach(passkey);
  document.querySelectorAll("button[data-copy]").forEach(copy);
  document.querySelectorAll("button[data-print]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  });
})();
