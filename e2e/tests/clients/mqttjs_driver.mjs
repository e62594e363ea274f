// Drives an mqtt.js client by JSON lines: one command in, one answer out, messages in between.
// The first argument is the folder in whose node_modules mqtt.js is.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const mqtt = createRequire(join(process.argv[2], 'package.json'))('mqtt')
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
let client

// What mqtt.js tells of a refusal differs from packet to packet; the code is somewhere in it.
const refused = (error) => error.code ?? Number(/\d+/.exec(error.message)?.[0] ?? 255)

const connect = (command) =>
  new Promise((resolve) => {
    const scheme = command.websocket ? (command.ca ? 'wss' : 'ws') : command.ca ? 'mqtts' : 'mqtt'
    const path = command.websocket ? '/mqtt' : ''
    client = mqtt.connect(`${scheme}://${command.host}:${command.port}${path}`, {
      protocolVersion: command.version,
      username: command.username,
      password: command.password,
      ca: command.ca ? readFileSync(command.ca) : undefined,
      properties: command.method ? { authenticationMethod: command.method } : undefined,
      reconnectPeriod: 0,
    })
    client.on('connect', () => resolve(0))
    client.on('error', (error) => resolve(refused(error)))
    client.on('message', (topic, payload) => say({ message: { topic, payload: payload.toString() } }))
  })

const subscribe = (command) =>
  new Promise((resolve) => {
    client.once('packetreceive', function answered(packet) {
      if (packet.cmd === 'suback') resolve(packet.granted[0])
      else client.once('packetreceive', answered)
    })
    client.subscribe(command.filter, { qos: 1 }, () => {})
  })

const publish = (command) =>
  new Promise((resolve) => {
    client.publish(command.topic, command.payload, { qos: 1 }, (error, packet) =>
      resolve(error ? refused(error) : (packet?.reasonCode ?? 0)),
    )
  })

// mqtt.js has no function for it, but reads and writes the packet: the code of the AUTH that answers, or of the DISCONNECT.
const reauthenticate = (command) =>
  new Promise((resolve) => {
    client.on('packetreceive', function answered(packet) {
      if (packet.cmd !== 'auth' && packet.cmd !== 'disconnect') return
      client.off('packetreceive', answered)
      resolve(packet.reasonCode)
    })
    const properties = { authenticationMethod: command.method, authenticationData: Buffer.from(command.token) }
    client._sendPacket({ cmd: 'auth', reasonCode: 0x19, properties })
  })

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  const code = await { connect, subscribe, publish, reauthenticate }[command.do](command)
  say({ code })
}
process.exit(0)
