/* As Arduino.h. */
#ifndef ARDUINO_OTA_H
#define ARDUINO_OTA_H

class ArduinoOTAClass {
 public:
  void begin(bool use_mdns = true);
  void handle();
};
extern ArduinoOTAClass ArduinoOTA;

#endif
