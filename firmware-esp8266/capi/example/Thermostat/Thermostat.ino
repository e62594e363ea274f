// A thermostat on an ESP8266 with the Arduino core: Wi-Fi, sensors and over-the-air updates are the sketch's, OAuthing is the
// library's. Put liboauthing.a and oauthing.h where the linker and the compiler find them (docs/device.md).
//
// The sketch below is the smallest whole one: one button, one lamp, one switched pin, one reading a minute.

#include <ArduinoOTA.h>
#include <ESP8266WiFi.h>
#include <oauthing.h>
#include <user_interface.h>

static const uint8_t BUTTON = 0;
static const uint8_t LAMP = LED_BUILTIN;
static const uint8_t SWITCH = 5;
static const uint32_t SECTOR = 4096;
// Where the image of `cargo xtask flash-image` was written: 4 MB modules, below the EEPROM's and the SDK's sectors.
static const uint32_t CREDENTIALS = 0x3F9000;
static const uint64_t READ_EVERY = 60000;

static WiFiClient socket_;
static uint64_t next_reading;
static uint64_t pressed_at;
static bool was_down, long_told;
static oauthing_phase phase;
static char code[9];
static uint64_t code_since;

static uint64_t now(void *) { return micros64() / 1000; }

// The chip's generator. It is one only while the radio is on, and it is: without Wi-Fi nothing here is called.
static void fill_random(void *, uint8_t *out, size_t len) { os_get_random(out, len); }

static bool dial(void *, const char *host, uint16_t port, uint64_t by) {
  socket_.stop();
  if (WiFi.status() != WL_CONNECTED) return false;
  uint64_t at = now(nullptr);
  socket_.setTimeout(by > at ? by - at : 1);
  bool connected = socket_.connect(host, port);
  socket_.setNoDelay(true);
  return connected;
}

static bool is_readable(void *) { return socket_.available() > 0 || !socket_.connected(); }

static int32_t read_some(void *context, uint8_t *out, size_t len, uint64_t by) {
  while (socket_.available() == 0) {
    if (!socket_.connected() || now(context) >= by) return 0;
    delay(1);
  }
  return socket_.read(out, len);
}

static int32_t write_some(void *, const uint8_t *bytes, size_t len, uint64_t) {
  return socket_.connected() ? (int32_t)socket_.write(bytes, len) : 0;
}

static void hang_up(void *) { socket_.stop(); }

static int32_t flash_read(void *, uint32_t slot, uint8_t *out, size_t len) {
  // The flash is read in words.
  static uint32_t words[(OAUTHING_SLOT + 3) / 4];
  if (!ESP.flashRead(CREDENTIALS + slot * SECTOR, words, sizeof words)) return -1;
  memcpy(out, words, len);
  return (int32_t)len;
}

static bool flash_write(void *, uint32_t slot, const uint8_t *bytes, size_t len) {
  static uint32_t words[(OAUTHING_SLOT + 3) / 4];
  uint32_t at = CREDENTIALS + slot * SECTOR;
  memset(words, 0xff, sizeof words);
  memcpy(words, bytes, len);
  return ESP.flashEraseSector(at / SECTOR) && ESP.flashWrite(at, words, sizeof words);
}

static void command(void *, const char *channel, const uint8_t *payload, size_t len) {
  if (strcmp(channel, "heater") == 0) digitalWrite(SWITCH, len == 4 && memcmp(payload, "true", 4) == 0);
}

static void show(void *context, const oauthing_status *status) {
  phase = (oauthing_phase)status->phase;
  if (strcmp(code, status->code) != 0) {
    strlcpy(code, status->code, sizeof code);
    code_since = now(context);
  }
}

static void light(void *context) {
  bool on = phase == OAUTHING_RUNNING;
  if (phase == OAUTHING_CLAIMABLE && code[0]) on = oauthing_blink(code, now(context) - code_since, nullptr);
  digitalWrite(LAMP, on ? LOW : HIGH);
}

static oauthing_event wait_for(void *context, uint64_t until, bool listen, oauthing_input *input) {
  static char reading[8];
  for (;;) {
    uint64_t at = now(context);
    bool down = digitalRead(BUTTON) == LOW;
    ArduinoOTA.handle();
    light(context);
    if (down && !was_down) pressed_at = at, long_told = false;
    if (down && !long_told && at - pressed_at >= 5000) {
      long_told = was_down = true;
      input->kind = OAUTHING_LONG_PRESS;
      return OAUTHING_INPUT;
    }
    bool was_short = !down && was_down && !long_told && at - pressed_at >= 30;
    was_down = down;
    if (was_short) {
      input->kind = OAUTHING_PRESS;
      return OAUTHING_INPUT;
    }
    if (phase == OAUTHING_RUNNING && at >= next_reading) {
      next_reading = at + READ_EVERY;
      dtostrf(analogRead(A0) * 0.1f, 1, 1, reading);
      input->kind = OAUTHING_PUBLISH;
      input->channel = "temperature";
      input->payload = (const uint8_t *)reading;
      input->payload_len = strlen(reading);
      input->retain = true;
      return OAUTHING_INPUT;
    }
    if (listen && is_readable(context)) return OAUTHING_READABLE;
    if (at >= until) return OAUTHING_TIME;
    delay(5);  // Wi-Fi and the watchdog
  }
}

void setup() {
  pinMode(BUTTON, INPUT_PULLUP);
  pinMode(LAMP, OUTPUT);
  pinMode(SWITCH, OUTPUT);
  WiFi.mode(WIFI_STA);
  WiFi.begin();  // what was stored by whatever sets Wi-Fi up
  ArduinoOTA.begin();
}

void loop() {
  static const oauthing_board board = {
      nullptr,    now,        fill_random, dial,    is_readable, read_some, write_some, hang_up, wait_for,
      flash_read, flash_write, command,     nullptr, show,        nullptr,   nullptr,
  };
  // Returns only if the flash holds no credentials: then there is nothing to do but to be flashed.
  oauthing_run(&board);
  delay(1000);
}
